package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/supervisor"
)

// The tests of this package run whole servers: package supervisor with this engine, on
// the real llama-server, or on the test binary in the role of one for what the real
// one cannot be made to do.

// roleVariable makes the test binary play a role.
const roleVariable = "LLAMACPP_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		return
	}
	for name, value := range map[string]string{
		// With the race detector, every child would take a second to exit.
		"GORACE": "atexit_sleep_ms=0",
		// llama-server has a thread for each core, and they spin while they wait for each
		// other: with fewer idle cores than threads a token takes a hundred times as long.
		"LLAMA_ARG_THREADS": "1",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		demotest.Cleanup()
		os.Exit(code)
	}))
}

// play plays a llama-server that misbehaves.
func play(role string) {
	if len(os.Args) == 2 && os.Args[1] == "--help" {
		fmt.Println("--host  an address, or a UNIX socket\n--metrics")
		return
	}
	switch role {
	case "crashes":
		fmt.Fprintln(os.Stderr, "error: out of luck")
		os.Exit(7)
	case "ignores SIGTERM":
		signal.Ignore(syscall.SIGTERM)
		serve(props)
	case "loads for ever":
		serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	case "loads slowly": // for 15 s, and prints lines
		loaded := time.Now().Add(15 * time.Second)
		go func() {
			for tick := time.NewTicker(100 * time.Millisecond); time.Now().Before(loaded); <-tick.C {
				fmt.Println("still loading")
			}
		}()
		serve(func(w http.ResponseWriter, r *http.Request) {
			if time.Now().Before(loaded) {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
	case "hangs": // /health answers, the engine does not
		serve(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slots" {
				<-r.Context().Done()
			}
		})
	case "reads": // for 15 s, without output
		readForAWhile()
		os.Exit(3)
	case "answers no test call":
		serve(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/completion" {
				fmt.Println("a line for each request, as llama-server prints")
				w.WriteHeader(http.StatusInternalServerError)
				fmt.Fprint(w, `{"error":{"code":500,"message":"Compute\n error.","type":"server_error"}}`)
			}
		})
	case "only embeds": // and its model's file cannot be read
		serve(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/completion" {
				w.WriteHeader(http.StatusNotImplemented)
				fmt.Fprint(w, `{"error":{"code":501,"message":"This server does not support completions. Start it without --embeddings","type":"not_supported_error"}}`)
				return
			}
			props(w, r)
		})
	case "is well":
		serve(props)
	}
}

func readForAWhile() {
	tick := time.NewTicker(200 * time.Millisecond)
	for range 75 {
		<-tick.C
		f, err := os.Open(os.Args[0])
		if err != nil {
			panic(err)
		}
		if _, err := io.CopyN(io.Discard, struct{ io.Reader }{f}, 2<<20); err != nil {
			panic(err)
		}
		f.Close()
	}
}

// props answers as a llama-server that is well.
func props(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/props" {
		fmt.Fprint(w, `{"total_slots":3,"default_generation_settings":{"n_ctx":2048}}`)
	}
}

// serve answers on the socket named after --host.
func serve(answer http.HandlerFunc) {
	for i, arg := range os.Args {
		if arg != "--host" {
			continue
		}
		l, err := net.Listen("unix", os.Args[i+1])
		if err != nil {
			panic(err)
		}
		_ = http.Serve(l, answer)
	}
}

// run runs a server until stop is called, and at the latest until the end of the test.
func run(t *testing.T, spec supervisor.Spec) (s *supervisor.Server, stop func()) {
	t.Helper()
	return runEngine(t, Engine{}, spec, nil)
}

func runEngine(t *testing.T, engine supervisor.Engine, spec supervisor.Spec, forceStop <-chan struct{}) (s *supervisor.Server, stop func()) {
	t.Helper()
	spec.Name = "test"
	if spec.Dir == "" {
		spec.Dir = shortDir(t)
	}
	if spec.CtxSize == 0 {
		spec.CtxSize = 512
	}
	s = supervisor.New(spec, engine, zerolog.Nop(), forceStop)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return s, stop
}

// runRole runs a server whose llama-server is the test binary in some role.
func runRole(t *testing.T, role string, spec supervisor.Spec) (s *supervisor.Server, stop func()) {
	t.Helper()
	spec.Binary, spec.Model = asRole(t, role), "none.gguf"
	return run(t, spec)
}

// asRole returns the path of the test binary, which plays a role until the end of the
// test.
func asRole(t *testing.T, role string) string {
	t.Helper()
	t.Setenv(roleVariable, role)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

// script writes a program that stands in front of llama-server: --help goes
// through, and everything else runs the body.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llama-server")
	text := "#!/bin/sh\n[ \"$1\" = --help ] && exec " + llamaServer(t) + " --help\n" + body + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// llamaServer returns the path of the real llama-server.
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

// demoModel returns the path of the counting model.
func demoModel(t *testing.T) string {
	t.Helper()
	path, err := demo.Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shortDir makes a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "llmsup") //nolint:usetesting // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// patience is how long a test waits for what will happen, on a busy machine as well.
const patience = time.Minute

// await follows a server's snapshots until one satisfies ok.
func await(t *testing.T, s *supervisor.Server, what string, ok func(*supervisor.Snapshot) bool) *supervisor.Snapshot {
	t.Helper()
	deadline := time.After(patience)
	for {
		now := s.Snapshot()
		if ok(now) {
			return now
		}
		select {
		case <-now.Changed:
		case <-deadline:
			t.Fatalf("no %s within %s; the last state is %s %q", what, patience, now.State, now.Reason)
		}
	}
}

func isReady(n *supervisor.Snapshot) bool       { return n.State == supervisor.Ready }
func hasExited(n *supervisor.Snapshot) bool     { return n.LastExit != nil }
func readyOrExited(n *supervisor.Snapshot) bool { return isReady(n) || hasExited(n) }
func failedOrRetried(n *supervisor.Snapshot) bool {
	return n.State == supervisor.Failed || n.State == supervisor.Restarting && n.Restarts >= 1 && n.PID == 0
}

// waitFor polls a condition until it holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// exists reports whether a pid is a process.
func exists(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// runs reports whether a pid is a process, and not a zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// slack is far more than a busy machine adds to a duration, in tests that distinguish
// a few seconds from a minute.
const slack = 8 * time.Second

// within repeats a measurement until it keeps its limit, a few times at most: what
// the load of the machine adds to a duration is not the program's.
func within(t *testing.T, limit time.Duration, measure func() time.Duration) {
	t.Helper()
	const tries = 4
	var durations []time.Duration
	for range tries {
		durations = append(durations, measure())
		if durations[len(durations)-1] <= limit {
			return
		}
	}
	t.Errorf("it took %s, want %s at most", durations, limit)
}

// skipUnsupported skips a test that this user or this machine cannot run, and has
// scripts/test.sh list it in its last lines.
func skipUnsupported(t *testing.T, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(f, "%s: %s\n", t.Name(), strings.ReplaceAll(why, "\n", "; "))
		_ = f.Close()
	}
	t.Skip("not run: " + why)
}
