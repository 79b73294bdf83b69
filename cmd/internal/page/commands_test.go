package page

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/wire"
)

// note records a command, and emits two steps.
func (d *fakeDaemon) note(ctx context.Context, emit func(control.Step) error, command string, body any) error {
	d.mu.Lock()
	d.commands = append(d.commands, fmt.Sprintf("%s %+v", command, body))
	refusal := d.refusal
	d.mu.Unlock()
	if refusal != nil || emit == nil {
		return refusal
	}
	if err := emit(control.Step{Step: control.StepDraining, Server: "qwen"}); err != nil {
		return err
	}
	if d.holds != nil {
		select {
		case <-d.holds:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return emit(control.Step{Step: control.StepDrained})
}

func (d *fakeDaemon) given() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commands
}

func (d *fakeDaemon) Drain(ctx context.Context, how control.DrainRequest, emit func(control.Step) error) error {
	return d.note(ctx, emit, "drain", how)
}

func (d *fakeDaemon) Resume(ctx context.Context, servers []string, emit func(control.Step) error) error {
	return d.note(ctx, emit, "resume", servers)
}

func (d *fakeDaemon) Load(ctx context.Context, server string, emit func(control.Step) error) error {
	return d.note(ctx, emit, "load", server)
}

func (d *fakeDaemon) Unload(ctx context.Context, how control.UnloadRequest, emit func(control.Step) error) error {
	return d.note(ctx, emit, "unload", how)
}

func (d *fakeDaemon) Restart(servers []string) (control.Restarting, error) {
	return control.Restarting{Servers: servers}, d.note(context.Background(), nil, "restart", servers)
}

func (d *fakeDaemon) Reload() ([]string, error) {
	return []string{"max_body: changed"}, d.note(context.Background(), nil, "reload", "")
}

func (d *fakeDaemon) Pull(ctx context.Context, ref string, emit func(control.Step) error) error {
	return d.note(ctx, emit, "pull", ref)
}

func (d *fakeDaemon) CancelPull(ref string) error {
	return d.note(context.Background(), nil, "cancel pull", ref)
}

func (d *fakeDaemon) Pin(server string, pinned bool) error {
	return d.note(context.Background(), nil, "pin", fmt.Sprint(server, pinned))
}

var commandBodies = map[string]string{
	"drain": `{"servers":["qwen"],"timeout":"1m","keep_server":true}`, "resume": `{}`, "load": `{"server":"qwen"}`,
	"unload": `{"server":"qwen","now":true}`, "cancel": `{"id":"1:a"}`, "restart": `{"servers":["qwen"]}`, "reload": `{}`, "pin": `{"server":"qwen","pinned":true}`,
	"pull": `{"ref":"hf:a/b"}`, "pull-cancel": `{"ref":"hf:a/b"}`,
}

func TestCommands(t *testing.T) {
	s := newSite(t, testKeys()...)
	operator, other := s.signIn(operatorKey), s.signIn(otherKey)
	for name, want := range map[string]struct{ given, kind, body string }{
		"drain":       {"drain {Servers:[qwen] Timeout:60000000000 For:0 KeepServer:true Yes:false}", "application/x-ndjson", `"step":"drained"`},
		"resume":      {"resume []", "application/x-ndjson", `"step":"drained"`},
		"load":        {"load qwen", "application/x-ndjson", `"step":"drained"`},
		"unload":      {"unload {Server:qwen Now:true}", "application/x-ndjson", `"step":"drained"`},
		"cancel":      {"cancel 1:a by ops", "application/json; charset=utf-8", `{"calls":[{"id":"1:a"`},
		"restart":     {"restart [qwen]", "application/json; charset=utf-8", `{"servers":["qwen"]`},
		"reload":      {"reload ", "application/json; charset=utf-8", `{"changes":["max_body: changed"]}`},
		"pull":        {"pull hf:a/b", "application/x-ndjson", `"step":"drained"`},
		"pull-cancel": {"cancel pull hf:a/b", "application/json; charset=utf-8", `{"ref":"hf:a/b"}`},
		"pin":         {"pin qwentrue", "application/json; charset=utf-8", `{"server":"qwen","pinned":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			path, body := "/ui/api/"+name, commandBodies[name]
			before := len(s.daemon.given())
			for who, tc := range map[string]struct {
				headers []string
				status  int
				code    string
			}{
				"no session":     {s.own(), 401, codeSignIn},
				"no operator":    {s.own("Cookie", other), 403, "operator_required"},
				"a foreign page": {[]string{"Cookie", operator, "Origin", "https://evil.example", "Content-Type", "application/json"}, 403, "origin_not_allowed"},
				"no Origin":      {[]string{"Cookie", operator, "Content-Type", "application/json"}, 403, "origin_not_allowed"},
				"a form":         {[]string{"Cookie", operator, "Origin", s.URL, "Content-Type", "text/plain"}, 415, "invalid_body"},
				"by header":      {s.own("X-Api-Key", operatorKey), 401, codeSignIn},
			} {
				if status, got := code(t, s.request("POST", path, body, tc.headers...)); status != tc.status || got != tc.code {
					t.Errorf("%s: %d %s", who, status, got)
				}
			}
			if status, _ := code(t, s.request("GET", path, "", s.own("Cookie", operator)...)); status != 404 {
				t.Errorf("GET: %d", status)
			}
			if status, got := code(t, s.request("POST", path, `{"nonsense":1}`, s.own("Cookie", operator)...)); status != 400 || got != "invalid_body" {
				t.Errorf("a wrong field: %d %s", status, got)
			}
			if status, got := code(t, s.request("POST", path, body+" {}", s.own("Cookie", operator)...)); status != 400 || got != "invalid_body" {
				t.Errorf("two bodies: %d %s", status, got)
			}
			if status, got := code(t, s.request("POST", path, body+" garbage", s.own("Cookie", operator)...)); status != 400 || got != "invalid_body" {
				t.Errorf("garbage after the body: %d %s", status, got)
			}
			if n := len(s.daemon.given()); n != before {
				t.Fatalf("commands that were refused were given: %q", s.daemon.given()[before:])
			}
			resp := s.request("POST", path, body, s.own("Cookie", operator)...)
			raw, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != want.kind || !strings.Contains(string(raw), want.body) {
				t.Errorf("%v %s %s %s", err, resp.Status, resp.Header.Get("Content-Type"), raw)
			}
			if got := s.daemon.given(); len(got) != before+1 || got[before] != want.given {
				t.Errorf("%q", got)
			}
			var line struct{ Command, By, From string }
			for text := range strings.Lines(s.daemon.logged()) {
				if strings.Contains(text, `"message":"a command by the page"`) && strings.Contains(text, `"command":"`+name+`"`) {
					_ = json.Unmarshal([]byte(text), &line) // an empty line fails below
				}
			}
			if line.By != "ops" || line.From == "" {
				t.Errorf("the log does not have who gave it:\n%s", s.daemon.logged())
			}
		})
	}
	if !strings.Contains(s.daemon.logged(), `"by":"app"`) {
		t.Error("the log does not have the refused commands")
	}
}

func TestRefusedCommands(t *testing.T) {
	s := newSite(t) // without keys, on loopback: commands are allowed
	for name, tc := range map[string]struct {
		refusal error
		code    string
		message string
	}{
		"no fallback": {control.NoFallbackError{Routes: []string{"local"}}, "no_fallback", "no other backend can answer calls for local"},
		"other":       {errors.New("there is no server \"x\""), "refused", "there is no server"},
	} {
		s.daemon.mu.Lock()
		s.daemon.refusal = tc.refusal
		s.daemon.mu.Unlock()
		for command, body := range commandBodies {
			resp := s.request("POST", "/ui/api/"+command, body, s.own()...)
			raw, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 409 || !strings.Contains(string(raw), tc.message) || !strings.Contains(string(raw), `"code":"`+tc.code+`"`) {
				t.Errorf("%s: %s: %v %s %s", name, command, err, resp.Status, raw)
			}
		}
	}
	if !strings.Contains(s.daemon.logged(), `"by":"loopback"`) {
		t.Errorf("%s", s.daemon.logged())
	}
}

// TestStopEndsSteps: a command that is followed does not delay the stop of llmsup.
func TestStopEndsSteps(t *testing.T) {
	s := newSite(t)
	s.daemon.holds = make(chan struct{})
	resp := s.request("POST", "/ui/api/drain", `{}`, s.own()...)
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "draining") {
		t.Fatalf("%s %v", line, err)
	}
	s.handler.Close()
	if rest, err := io.ReadAll(in); err != nil || strings.Contains(string(rest), "drained") {
		t.Errorf("%s %v", rest, err)
	}
}

// TestCall: a call that is made on the page has the key of the session, and no cookie.
func TestCall(t *testing.T) {
	s := newSite(t, testKeys()...)
	const path = "/ui/v1/chat/completions"
	if status, _ := code(t, s.request("POST", path, "{}", s.own()...)); status != 401 {
		t.Errorf("without a session: %d", status)
	}
	if status, _ := code(t, s.request("POST", path, "{}", "Cookie", s.signIn(otherKey), "Origin", "https://evil.example")); status != 403 {
		t.Errorf("a foreign page: %d", status)
	}
	resp := s.request("POST", path, "{}", s.own("Cookie", s.signIn(otherKey))...)
	raw, err := io.ReadAll(resp.Body)
	if err != nil || string(raw) != "/v1/chat/completions for app, cookie \"\"" || resp.Header.Get("X-Llmsup-Backend") != "qwen" {
		t.Errorf("%v %s", err, raw)
	}
}

// TestPullIsLoggedWithoutSecrets: a URL may have a password or a signature, also one that is
// refused.
func TestPullIsLoggedWithoutSecrets(t *testing.T) {
	s := newSite(t, testKeys()...)
	operator := s.signIn(operatorKey)
	for ref, want := range map[string]string{
		"https://host/a.gguf?sig=SECRET":        "https://host/a.gguf",
		"https://user:SECRET@host/b.gguf":       "https://host/b.gguf",
		"http://host/c.gguf#SECRET":             "http://host/c.gguf",
		"hf:org/repo:Q4_K_M@v1":                 "hf:org/repo:Q4_K_M@v1",
		"https://user:SECRET@host:bad/d.gguf":   "not a reference",
		"hf://user:SECRET@host/e.gguf?x=SECRET": "hf://host/e.gguf",
	} {
		for _, command := range []string{"pull", "pull-cancel"} {
			body := string(wire.MustJSON(pullRequest{Ref: ref}))
			if resp := s.request("POST", "/ui/api/"+command, body, s.own("Cookie", operator)...); resp.StatusCode != 200 {
				t.Errorf("%s %s: %s", command, ref, resp.Status)
			}
			if log := s.daemon.logged(); strings.Contains(log, "SECRET") || !strings.Contains(log, `"command":"`+command+`","body":{"ref":"`+want+`"}`) {
				t.Errorf("%s %s: the log is\n%s", command, ref, log)
			}
		}
	}
}
