package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// source is a daemon whose answers are known.
type source struct{}

func (source) Status() Status { return Status{Version: "v1", Inflight: 3} }
func (source) Route(model string) RouteAnswer {
	return RouteAnswer{Model: model, Route: "*/*", Backend: "openrouter"}
}

func (source) Restart(servers []string) (Restarting, error) {
	if slices.Contains(servers, "none") {
		return Restarting{}, errors.New("there is no server none")
	}
	return Restarting{Servers: servers}, nil
}

func (source) Drain(_ context.Context, how DrainRequest, emit func(Step) error) error {
	if !how.Yes {
		return NoFallbackError{[]string{"local", "local/a"}}
	}
	if how.For > 0 {
		return errors.New("no such thing")
	}
	if err := emit(Step{Step: StepDraining, Server: cmp.Or(strings.Join(how.Servers, ","), "a"), Calls: 3}); err != nil {
		return err
	}
	return emit(Step{Step: StepDrained})
}

func (source) Resume(ctx context.Context, servers []string, emit func(Step) error) error {
	if err := emit(Step{Step: StepStarting, Server: strings.Join(servers, ",")}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (source) ModelFiles(context.Context) (ModelFiles, error) {
	return ModelFiles{Folder: "/models", Files: []ModelFile{{Name: "b"}}}, nil
}

func (source) Models() []Model { return []Model{{Name: "a", State: "unloaded"}} }

func (source) Boxes() Boxes {
	return Boxes{Fleet: &Fleet{Box: "a", Joined: true, Others: 1}, Boxes: []Box{{Box: fleet.Box{Name: "a"}, This: true}, {Box: fleet.Box{Name: "b"}, SeenSeconds: 0.5}}}
}

func (source) Load(_ context.Context, server string, emit func(Step) error) error {
	if server == "none" {
		return errors.New("there is no server none")
	}
	return emit(Step{Step: StepLoaded, Text: server})
}

func (source) Unload(_ context.Context, how UnloadRequest, emit func(Step) error) error {
	return emit(Step{Step: StepUnloaded, Text: fmt.Sprint(how)})
}

func (source) Reload() ([]string, error) { return []string{"route a: added"}, nil }
func (source) Logs(ctx context.Context, q LogsRequest, begin func() error, emit func(LogLine) error) error {
	if slices.Contains(q.Servers, "none") {
		return errors.New("there is no server none")
	}
	if err := begin(); err != nil {
		return err
	}
	for i := range q.Lines {
		if err := emit(LogLine{Server: strings.Join(q.Servers, ","), Text: fmt.Sprint(i)}); err != nil {
			return err
		}
	}
	if q.Follow {
		<-ctx.Done()
	}
	return nil
}

// serve answers at a socket of the test's own until the test ends.
func serve(t *testing.T, h http.Handler) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "c.sock")
	serveAt(t, path, h)
	return path
}

func serveAt(t *testing.T, path string, h http.Handler) {
	t.Helper()
	l := mustListen(t, path)
	server := &http.Server{Handler: h, ConnContext: WithPeer, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

func TestClient(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	s, err := c.Status(t.Context())
	if err != nil || s.Version != "v1" || s.Inflight != 3 || s.Servers == nil {
		t.Errorf("%+v, %v", s, err)
	}
	const model = "ven dor/m&o=d:free#?"
	a, err := c.Route(t.Context(), model)
	if err != nil || a.Model != model || a.Backend != "openrouter" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := c.Route(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "the query needs a model") || errors.Is(err, ErrNoDaemon) {
		t.Errorf("no model: %v", err)
	}
}

func TestClientBoxes(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	all, err := c.Boxes(t.Context())
	if err != nil || all.Fleet == nil || all.Fleet.Box != "a" || len(all.Boxes) != 2 || !all.Boxes[0].This || all.Boxes[1].Name != "b" || all.Boxes[1].SeenSeconds != 0.5 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestClientModels(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	if all, err := c.Models(t.Context()); err != nil || len(all) != 1 || all[0].State != "unloaded" {
		t.Errorf("%+v, %v", all, err)
	}
	last := Step{}
	keep := func(s Step) error { last = s; return nil }
	if err := c.Load(t.Context(), "a", keep); err != nil || last.Step != StepLoaded || last.Text != "a" {
		t.Errorf("%+v, %v", last, err)
	}
	if err := c.Unload(t.Context(), UnloadRequest{"a", true}, keep); err != nil || last.Step != StepUnloaded || last.Text != "{a true}" {
		t.Errorf("%+v, %v", last, err)
	}
	if err := c.Load(t.Context(), "none", keep); err == nil || !strings.Contains(err.Error(), "there is no server none") {
		t.Errorf("an unknown server: %v", err)
	}
}

func TestClientLogs(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	var got []string
	keep := func(line LogLine) error { got = append(got, line.Server+line.Text); return nil }
	if err := c.Logs(t.Context(), LogsRequest{Lines: 3}, keep); err != nil || strings.Join(got, " ") != "0 1 2" {
		t.Errorf("%q, %v", got, err)
	}
	got = nil
	if err := c.Logs(t.Context(), LogsRequest{Servers: []string{"a&b", "c"}, Lines: 1}, keep); err != nil || strings.Join(got, " ") != "a&b,c0" {
		t.Errorf("%q, %v", got, err)
	}
	if err := c.Logs(t.Context(), LogsRequest{Servers: []string{"none"}, Follow: true}, keep); err == nil || !strings.HasSuffix(err.Error(), "refused: there is no server none") {
		t.Errorf("of no server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Logs(ctx, LogsRequest{Lines: 2, Follow: true}, func(line LogLine) error {
		if line.Text == "1" { // the last before it waits for more
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("following ended with %v", err)
	}
	if err := c.Logs(t.Context(), LogsRequest{Lines: -1}, keep); err == nil || !strings.Contains(err.Error(), "number of lines") {
		t.Errorf("n = -1: %v", err)
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	dead := listenUnix(t, filepath.Join(dir, "dead"))
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	write(t, filepath.Join(dir, "file"))
	const start = `; start it with "llmsup start --model FILE.gguf", or pass its --control-socket`
	for path, want := range map[string]string{
		"none": start, "dead": start, "file": start, "file/x": start, "none/x": start,
		strings.Repeat("x", 108): "is too long for the path of a socket; pass a shorter one with --control-socket",
	} {
		_, err := NewClient(filepath.Join(dir, path)).Status(t.Context())
		if !errors.Is(err, ErrNoDaemon) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v\nwant ...%s", path, err, want)
		}
	}
	// Root may open every socket, so the kernel's word is taken as given.
	err := NewClient("p").unreachable(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
	if !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), "this user has no access to p") {
		t.Errorf("no permission: %v", err)
	}
	if err := NewClient("p").unreachable(fmt.Errorf("x: %w", io.EOF)); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), "does not answer as llmsup does (EOF)") {
		t.Errorf("another user: %v", err)
	}
	if err := NewClient("p").unreachable(fmt.Errorf("x: %w", context.DeadlineExceeded)); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), "llmsup at p did not answer in time; the machine may be overloaded") {
		t.Errorf("a daemon that does not answer: %v", err)
	}
	if err := NewClient("p").unreachable(context.Canceled); errors.Is(err, ErrNoDaemon) {
		t.Errorf("Ctrl-C passes for no daemon: %v", err)
	}
}

func TestClientOfAnotherServer(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		want   string
	}{
		"refused":         {func(w http.ResponseWriter) { reject(w, http.StatusTeapot, "no tea") }, "refused: no tea"},
		"no reason":       {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }, "answered 418"},
		"no JSON":         {func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, "sent an unexpected answer"},
		"another type":    {func(w http.ResponseWriter) { fmt.Fprint(w, `{"version":1}`) }, "it may be another version of llmsup"},
		"cut off":         {func(w http.ResponseWriter) { w.Header().Set("Content-Length", "9"); fmt.Fprint(w, "{") }, "was lost in the middle of its answer"},
		"cut before that": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "does not answer as llmsup does"},
	} {
		t.Run(name, func(t *testing.T) {
			path := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tc.answer(w) }))
			if _, err := NewClient(path).Status(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestClientTimeout(t *testing.T) {
	asked := make(chan struct{})
	path := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := NewClient(path).Status(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNoDaemon) {
		t.Error(err)
	}
}

func TestHandler(t *testing.T) {
	for name, tc := range map[string]struct {
		method, target, host, origin string
		status                       int
		body                         string
	}{
		"status":        {"GET", "/v1/status", "llmsup", "", 200, `"version":"v1"`},
		"route":         {"GET", "/v1/route?model=a/b", "llmsup", "", 200, `"model":"a/b"`},
		"no model":      {"GET", "/v1/route", "llmsup", "", 400, `{"error":"the query needs a model"}`},
		"a change":      {"POST", "/v1/status", "llmsup", "", 404, `{"error":"this daemon has no POST /v1/status; it may be another version of llmsup"}`},
		"unknown":       {"GET", "/v2/status", "llmsup", "", 404, `{"error":"this daemon has no GET /v2/status`},
		"a web page":    {"GET", "/v1/status", "llmsup", "https://evil.example", 403, `{"error":`},
		"a null origin": {"GET", "/v1/status", "llmsup", "null", 403, `{"error":`},
		"a bad body":    {"POST", "/v1/resume", "llmsup", "", 400, `{"error":"the body has to be JSON with servers"}`},
		"another host":  {"GET", "/v1/status", "evil.example", "", 403, `{"error":`},
		"localhost":     {"GET", "/v1/status", "localhost", "", 403, `{"error":`},
		"no host":       {"GET", "/v1/status", "", "", 403, `{"error":`},
	} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, peer{}), tc.method, tc.target, strings.NewReader(`{"server":"a"}`))
		r.Host = tc.host
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		w := httptest.NewRecorder()
		NewHandler(source{}, "v1").ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// TestClientSteps: steps come as they happen, and what was not done is told with
// its reason.
func TestClientSteps(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	var got []Step
	keep := func(s Step) error { got = append(got, s); return nil }
	var stranded NoFallbackError
	if err := c.Drain(t.Context(), DrainRequest{}, keep); !errors.As(err, &stranded) || strings.Join(stranded.Routes, " ") != "local local/a" || len(got) != 0 {
		t.Errorf("stranded: %v, %+v", err, got)
	}
	if err := c.Drain(t.Context(), DrainRequest{Yes: true, For: Duration(time.Hour)}, keep); err == nil || !strings.HasSuffix(err.Error(), "refused: no such thing") {
		t.Errorf("%v", err)
	}
	if err := c.Drain(t.Context(), DrainRequest{Yes: true, For: -1}, keep); err == nil {
		t.Error("a time before now was taken")
	}
	if err := c.Drain(t.Context(), DrainRequest{Yes: true, Timeout: Duration(90 * time.Second)}, keep); err != nil || len(got) != 2 || got[0].Calls != 3 || got[1].Step != StepDrained {
		t.Errorf("%v, %+v", err, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Resume(ctx, nil, func(Step) error { cancel(); return nil }) // as it comes, and not at the end
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Ctrl-C: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	_ = c.Resume(ctx, []string{"a", "b"}, func(s Step) error { cancel(); return keep(s) })
	_ = c.Drain(t.Context(), DrainRequest{Yes: true, Servers: []string{"c"}}, keep)
	if len(got) != 5 || got[2].Server != "a,b" || got[3].Server != "c" {
		t.Errorf("of named servers: %+v", got)
	}
	if begun, err := c.Restart(t.Context(), []string{"a"}); err != nil || len(begun.Servers) != 1 || begun.Servers[0] != "a" {
		t.Errorf("restart: %+v, %v", begun, err)
	}
	if _, err := c.Restart(t.Context(), []string{"none"}); err == nil || !strings.HasSuffix(err.Error(), "refused: there is no server none") {
		t.Errorf("restart of no server: %v", err)
	}
}

func TestClientOfAnotherVersion(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	var versions []string
	c.Version, c.OnVersionMismatch = "v2", func(daemon string) { versions = append(versions, daemon) }
	for range 2 {
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(versions) != 1 || versions[0] != "v1" {
		t.Errorf("versions %q, want v1 once", versions)
	}
	c = NewClient(serve(t, NewHandler(source{}, "v1")))
	c.Version, c.OnVersionMismatch = "v1", func(daemon string) { t.Errorf("mismatch with %s, the same version", daemon) }
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (source) Push(_ context.Context, r PushRequest, user string) (PushedConfig, error) {
	if r.Text == "" {
		return PushedConfig{}, errors.New(r.File + " has no settings")
	}
	return PushedConfig{Version: 7, Previous: &FleetDocument{Version: 6, PushedBy: user, Text: r.Text}}, nil
}

func (source) Pull(_ context.Context, version uint64) (PulledConfig, error) {
	return PulledConfig{Box: "gpu1", Fleet: &FleetDocument{Version: version, Text: "routes: {}\n"}}, nil
}

func TestFleetConfig(t *testing.T) {
	c, ctx := NewClient(serve(t, NewHandler(source{}, "v1"))), t.Context()
	long := "# " + strings.Repeat("é<", 100<<10)
	pushed, err := c.PushConfig(ctx, PushRequest{File: "f.yaml", Text: long})
	if err != nil || pushed.Version != 7 || pushed.Previous.Text != long || pushed.Previous.PushedBy == "" || pushed.Previous.PushedBy == "unknown" {
		t.Errorf("%v, %v", pushed.Version, err)
	}
	if _, err := c.PushConfig(ctx, PushRequest{File: "f.yaml"}); err == nil || !strings.Contains(err.Error(), "f.yaml has no settings") {
		t.Errorf("%v", err)
	}
	if pulled, err := c.PullConfig(ctx, 5); err != nil || pulled.Fleet == nil || pulled.Fleet.Version != 5 || pulled.Box != "gpu1" {
		t.Errorf("%+v, %v", pulled, err)
	}
}
