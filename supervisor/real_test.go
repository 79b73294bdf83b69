package supervisor

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models/demo"
)

// These tests run the real llama-server on the real counting model.

func llamaServer(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("LLMSUP_TEST_LLAMA_SERVER"), "llama-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no llama-server in LLMSUP_TEST_LLAMA_SERVER nor on PATH: run scripts/test.sh, which gets one")
	return ""
}

func demoModel(t *testing.T) string {
	t.Helper()
	path, err := demo.Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ask sends a GET to a server's endpoint and returns the status.
func ask(t *testing.T, e Endpoint, path, key string) int {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, e.Network, e.Address)
		},
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://llama-server"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestRealServer(t *testing.T) {
	long := strings.Repeat("a-long-name-", 9) // no room for a socket's path below it
	for name, tc := range map[string]struct{ below, network string }{
		"on a socket": {"", "unix"},
		"on a port":   {long, "tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shortDir(t), tc.below)
			s := New(Spec{
				Name: "demo", Binary: llamaServer(t), Model: demoModel(t), CtxSize: 4096, NGPULayers: 99, Dir: dir, Args: []string{"-np", "2"},
			}, nopLog, nil)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); s.Run(ctx) }()
			defer func() { cancel(); <-done }()

			now := await(t, s, "ready", isReady)
			if now.Endpoint.Network != tc.network {
				t.Errorf("it listens on %s %s, want %s", now.Endpoint.Network, now.Endpoint.Address, tc.network)
			}
			if now.Slots != 2 {
				t.Errorf("%d slots, want the 2 of the user's own flag", now.Slots)
			}
			if with, without := ask(t, now.Endpoint, "/slots", now.Endpoint.Key), ask(t, now.Endpoint, "/slots", ""); with != 200 || without != 401 {
				t.Errorf("with its key %d, without %d; want 200 and 401", with, without)
			}
			cancel()
			<-done
			if alive(now.PID) {
				t.Error("it lives after the stop")
			}
			if _, err := os.Stat(now.Endpoint.Address); tc.network == "unix" && err == nil {
				t.Error("its socket is left behind")
			}
		})
	}
}

func TestRealServerSaysWhyItEnded(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	if err := os.WriteFile(bad, []byte("GGUF and nothing else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spec Spec
		want string
	}{
		"a broken model": {Spec{Model: bad}, "model"},
		"a flag that it does not know": {
			Spec{Model: demoModel(t), Args: []string{"--no-such-flag"}},
			"exit status 1: error: invalid argument: --no-such-flag",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.spec.Binary = llamaServer(t)
			s, _ := run(t, "", tc.spec)
			now := await(t, s, "an exit", func(n *Snapshot) bool { return n.LastExit != nil })
			if now.LastExit.Code != 1 || !strings.Contains(now.LastExit.Cause, tc.want) {
				t.Errorf("exit %d, cause %q; want 1 and %q", now.LastExit.Code, now.LastExit.Cause, tc.want)
			}
			if now.State != Restarting || !strings.Contains(now.Reason, "next start in") {
				t.Errorf("%s: %q", now.State, now.Reason)
			}
		})
	}
}

// TestRealExitClasses provokes what the real engine can be made to die of.
func TestRealExitClasses(t *testing.T) {
	cut := filepath.Join(t.TempDir(), "cut.gguf")
	whole, err := os.ReadFile(demoModel(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	limited := filepath.Join(t.TempDir(), "limited")
	script := "#!/bin/sh\n[ \"$1\" = --help ] || ulimit -v 3000000\nexec " + llamaServer(t) + " \"$@\"\n"
	if err := os.WriteFile(limited, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spec  Spec
		class Class
		says  string
		state State // where it comes to rest
	}{
		"missing model":   {Spec{Model: "/nowhere/m.gguf"}, ModelMissing, "check the path", Failed},
		"truncated model": {Spec{Model: cut}, ModelCorrupt, "corrupted or incomplete", Failed},
		"unknown flag":    {Spec{Model: demoModel(t), Args: []string{"--no-such-flag"}}, BadFlag, "--no-such-flag", Failed},
		"bad value":       {Spec{Model: demoModel(t), Args: []string{"--threads", "many"}}, BadFlag, "--threads", Failed},
		"missing binary":  {Spec{Model: demoModel(t), Binary: "/nowhere/llama-server"}, MissingBinary, "/nowhere/llama-server", Failed},
		"no memory":       {Spec{Model: demoModel(t), Binary: limited, CtxSize: 4_000_000}, OutOfRAM, "free memory", Restarting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.spec.Name, tc.spec.Dir = "test", shortDir(t)
			tc.spec.CtxSize = max(tc.spec.CtxSize, 512)
			if tc.spec.Binary == "" {
				tc.spec.Binary = llamaServer(t)
			}
			s := New(tc.spec, nopLog, nil)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); s.Run(ctx) }()
			defer func() { cancel(); <-done }()
			now := await(t, s, "at rest after two ends", func(n *Snapshot) bool {
				return n.State == Failed || n.State == Restarting && n.Restarts >= 1 && n.PID == 0
			})
			if now.State != tc.state {
				t.Errorf("%s (%s), want %s", now.State, now.Reason, tc.state)
			}
			if e := now.LastExit; e.Class != tc.class || !strings.Contains(e.Cause, tc.says) {
				t.Errorf("class %s: %q; want %s with %q", e.Class, e.Cause, tc.class, tc.says)
			}
		})
	}
}

// TestRealPortTaken: a child that is told to listen where somebody else does.
func TestRealPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := New(Spec{Name: "test", Binary: llamaServer(t), Model: demoModel(t), CtxSize: 512, Dir: shortDir(t)}, nopLog, nil)
	s.start = func(_ context.Context, out *lineWriter) (child, Endpoint, error) {
		e := Endpoint{Network: "tcp", Address: taken.Addr().String(), Key: "k"}
		p, err := launch(s.spec.Binary, s.spec.args(features{}, e), s.spec.environ("k", "t"), out)
		return p, e, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	now := await(t, s, "ready or an exit", func(n *Snapshot) bool { return n.State == Ready || n.LastExit != nil })
	if now.State == Ready || now.LastExit.Class != PortTaken {
		t.Errorf("%s, exit %+v", now.State, now.LastExit)
	}
}
