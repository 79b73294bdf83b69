package supervisor

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/models/demo/demotest"
)

var nopLog = zerolog.Nop()

// TestMain lets the test binary play llama-server, for what the real one can't
// be made to do: run again with a role in the environment, it does that.
func TestMain(m *testing.M) {
	if role := os.Getenv("SUPERVISOR_TEST_ROLE"); role != "" {
		play(role)
		return
	}
	for name, value := range map[string]string{
		// With the race detector, every child would take a second to exit.
		"GORACE": "atexit_sleep_ms=0",
		// A llama-server has a thread for each core, and they spin while they wait for each
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

func play(role string) {
	args := strings.Join(os.Args[1:], " ")
	if args == "--help" {
		fmt.Println("--host  an address, or a UNIX socket\n--metrics")
		return
	}
	switch role {
	case "crash":
		fmt.Fprintln(os.Stderr, "error: out of luck")
		os.Exit(7)
	case "deaf": // to SIGTERM
		signal.Ignore(syscall.SIGTERM)
		serve(args)
	case "parent": // leaves a child of its own in the group
		child := exec.Command("sleep", "300")
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Printf("child %d\n", child.Process.Pid)
		serve(args)
	case "mute": // never done with loading
		serveWith(args, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	case "slow": // loads for 1.5 s, and says so
		began := time.Now()
		go func() {
			for range 30 {
				time.Sleep(100 * time.Millisecond)
				fmt.Println("still loading")
			}
		}()
		serveWith(args, func(w http.ResponseWriter, r *http.Request) {
			if time.Since(began) < 1500*time.Millisecond {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
	case "wedges": // /health goes on, the engine does not
		serveWith(args, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slots" {
				<-r.Context().Done()
			}
		})
	case "reads": // for 3 s, without a word
		for range 15 {
			time.Sleep(200 * time.Millisecond)
			f, err := os.Open(os.Args[0])
			if err != nil {
				panic(err)
			}
			if _, err := io.CopyN(io.Discard, struct{ io.Reader }{f}, 2<<20); err != nil {
				panic(err)
			}
			f.Close()
		}
		os.Exit(3)
	case "no answers": // its /health is good, its completions are not
		serveWith(args, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/completion" {
				fmt.Println("a line for every request, as llama-server has")
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
	case "polite":
		serve(args)
	}
}

// serve answers as a llama-server that is well.
func serve(args string) {
	serveWith(args, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/props" {
			fmt.Fprint(w, `{"total_slots":3,"default_generation_settings":{"n_ctx":2048}}`)
		}
	})
}

// serveWith answers on the socket named after --host.
func serveWith(args string, answer http.HandlerFunc) {
	fields := strings.Fields(args)
	for i, field := range fields {
		if field != "--host" {
			continue
		}
		l, err := net.Listen("unix", fields[i+1])
		if err != nil {
			panic(err)
		}
		_ = http.Serve(l, answer)
	}
}

// splitWords is strings.Fields under a name that says what it is for here.
func splitWords(s string) []string { return strings.Fields(s) }

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

// patience is how long a test waits for what will happen, on however busy a machine.
const patience = time.Minute

// await follows a server's snapshots until one satisfies ok.
func await(t *testing.T, s *Server, what string, ok func(*Snapshot) bool) *Snapshot {
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
