package router

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
)

// withLargeForms allows forms of any size, which are kept in a folder.
func withLargeForms(dir string) func(*plan.Config, map[string]models.Route) {
	return func(c *plan.Config, _ map[string]models.Route) { c.Bodies = request.Limits{Bytes: 1 << 40, Dir: dir} }
}

// TestLargeForm: a form that is too large for memory reaches each backend as it was sent, but
// for its model, and leaves nothing on the disk.
func TestLargeForm(t *testing.T) {
	dir := t.TempDir()
	whileSent := make(chan int, 1)
	a := newAnyEngine(t, nil, status(200, `{"text":"1 2 3"}`), withLargeForms(dir))
	a.engine.handler = func(w http.ResponseWriter, r *http.Request) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		whileSent <- len(entries)
		breaks(w, r)
	}
	text, contentType := form(t, formPart{"file", "a.wav", strings.Repeat(audioFile, 100_000)}, formPart{"model", "", "tts"})
	if len(text) <= request.MaxFormInMemory {
		t.Fatalf("the form has only %d bytes", len(text))
	}
	for name, length := range map[string]int64{"of known length": int64(len(text)), "of unknown length": -1} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+"/v1/audio/transcriptions", io.NopCloser(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || string(got) != `{"text":"1 2 3"}` || err != nil || resp.Header.Get("X-Llmsup-Backend") != "openrouter" || resp.Header.Get("X-Llmsup-Reason") != "lost" {
			t.Errorf("%s: %d %s, %v, %v", name, resp.StatusCode, got, err, resp.Header)
		}
		if n := <-whileSent; n != 0 {
			t.Errorf("%s: there are %d files with a name", name, n)
		}
		for peer, model := range map[*fakeBackend]string{a.engine: "tts", a.cloud: "vendor/tts"} {
			sent := peer.requests()[len(peer.requests())-1]
			if string(sent.body) != strings.Replace(text, "\r\ntts\r\n", "\r\n"+model+"\r\n", 1) || sent.header.Get("Content-Length") == "" {
				t.Errorf("%s: %s got %d bytes of %d, %v", name, model, len(sent.body), len(text), sent.header)
			}
		}
	}
	a.waitIdle()
	if open := openBodies(t); open != 0 {
		t.Errorf("%d files are still open", open)
	}
}

// openBodies counts the open files of bodies: those without a name.
func openBodies(t *testing.T) (n int) {
	t.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink(dir + "/" + e.Name()); err == nil && strings.HasSuffix(target, " (deleted)") {
			n++
		}
	}
	return n
}

// TestLargeFormErrors: nothing of a form that cannot be received stays on the disk.
func TestLargeFormErrors(t *testing.T) {
	dir := t.TempDir()
	large := strings.Repeat(audioFile, 100_000)
	for name, tc := range map[string]struct {
		limits request.Limits
		part   formPart
		status int
		code   string
	}{
		"over max_body":  {request.Limits{Bytes: 5 << 20, Dir: dir}, formPart{"model", "", "tts"}, 413, "request_too_large"},
		"no folder":      {request.Limits{Bytes: 1 << 40, Dir: dir + "/missing"}, formPart{"model", "", "tts"}, 503, "insufficient_storage"},
		"a broken form":  {request.Limits{Bytes: 1 << 40, Dir: dir}, formPart{"Model", "", "tts"}, 400, "invalid_body"},
		"no such model":  {request.Limits{Bytes: 1 << 40, Dir: dir}, formPart{"model", "", "nonsense"}, 404, "model_not_found"},
		"under max_body": {request.Limits{Bytes: 8 << 20, Dir: dir}, formPart{"model", "", "tts"}, 200, ""},
	} {
		a := newAnyEngine(t, status(200, "1 2 3", "Content-Type", "text/plain"), answers, func(c *plan.Config, _ map[string]models.Route) { c.Bodies = tc.limits })
		text, contentType := form(t, formPart{"file", "a.wav", large}, tc.part)
		r := a.post("/v1/audio/transcriptions", text, "Content-Type", contentType)
		if code := errorCode(r); r.status != tc.status || tc.code != "" && code != tc.code || strings.Contains(r.body, dir) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if open := openBodies(t); open != 0 {
		t.Errorf("%d files are still open", open)
	}
}

// TestLargeFormIsCanceled: a client that goes away while its form is sent to the server, or
// before it has arrived, leaves nothing behind.
func TestLargeFormIsCanceled(t *testing.T) {
	receiving, left, cut := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	engine := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 100))
		close(receiving)
		<-left
		_, err := io.Copy(io.Discard, r.Body)
		cut <- err
	})}
	a := newAnyEngine(t, answers, answers, withLargeForms(t.TempDir()))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go engine.Serve(listener) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { _ = engine.Close() })
	address := listener.Addr().String()
	a.server.edit(func(s *backend.LocalState) { s.Address = address })
	text, contentType := form(t, formPart{"file", "a.wav", strings.Repeat(audioFile, 300_000)}, formPart{"model", "", "alone"})
	for name, body := range map[string]func(leave func()) io.Reader{
		"while it is sent": func(leave func()) io.Reader {
			go func() { <-receiving; leave(); a.waitIdle(); close(left) }()
			return strings.NewReader(text)
		},
		"before it has arrived": func(leave func()) io.Reader {
			return io.MultiReader(strings.NewReader(text[:len(text)/2]), leaver(leave))
		},
	} {
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/v1/audio/transcriptions", body(leave))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(text))
		req.Header.Set("Content-Type", contentType)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
		a.waitIdle()
		eventually(t, name+": no file is open", func() bool { return openBodies(t) == 0 })
	}
	if err := <-cut; err == nil {
		t.Error("the server received a whole form after the client had gone")
	}
}

// leaver is the rest of a body that never comes: its client goes away.
type leaver func()

func (l leaver) Read([]byte) (int, error) { l(); return 0, context.Canceled }
