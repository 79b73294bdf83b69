package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// llamaServer returns the real llama-server that the tests run.
func llamaServer(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("LLMSUP_TEST_LLAMA_SERVER"), "llama-server"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no llama-server in LLMSUP_TEST_LLAMA_SERVER nor on PATH: run scripts/test.sh, which gets one")
	return ""
}

// patience is how long a test waits for what has to happen, on however busy a
// machine.
const patience = time.Minute

// instance is a llmsup that a test runs as users do: a process of its own.
type instance struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string // http://host:port
	client *control.Client
	state  string // its state directory
	mu     sync.Mutex
	log    bytes.Buffer
	done   chan struct{}
	err    error // how it ended, after done
}

// shortDir makes a folder whose path leaves room for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "llmsup") //nolint:usetesting // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// launch starts llmsup on a port of its own and waits until it takes calls. args
// come after the ones that keep it apart from other instances.
func launch(t *testing.T, env []string, args ...string) *instance {
	t.Helper()
	return launchIn(t, shortDir(t), env, args...)
}

// launchIn is launch in a state directory that may have been used before.
func launchIn(t *testing.T, dir string, env []string, args ...string) *instance {
	t.Helper()
	all := append([]string{
		"start", "--listen", "127.0.0.1:0", "--state-dir", dir, "--control-socket", filepath.Join(dir, "c.sock"),
		"--llama-server", llamaServer(t), "--log-format", "json", "--log-level", "debug",
	}, args...)
	in := &instance{t: t, state: dir, client: control.NewClient(filepath.Join(dir, "c.sock")), done: make(chan struct{})}
	in.cmd = exec.Command("llmsup", all...)
	in.cmd.Env = append(os.Environ(), env...)
	in.cmd.WaitDelay = time.Second
	pipe, err := in.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	base := make(chan string, 1)
	go in.follow(pipe, base)
	t.Cleanup(in.stop)
	select {
	case in.url = <-base:
	case <-in.done:
		t.Fatalf("llmsup ended: %v\n%s", in.err, in.logged())
	case <-time.After(patience):
		t.Fatalf("llmsup takes no calls after a minute:\n%s", in.logged())
	}
	return in
}

// follow keeps the log and reads the address from it.
func (in *instance) follow(pipe io.Reader, base chan<- string) {
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		in.mu.Lock()
		in.log.Write(lines.Bytes())
		in.log.WriteByte('\n')
		in.mu.Unlock()
		if url := gjson.GetBytes(lines.Bytes(), "base_url").Str; url != "" {
			base <- strings.TrimSuffix(url, "/v1")
		}
	}
	in.err = in.cmd.Wait()
	close(in.done)
}

func (in *instance) logged() string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.log.String()
}

// stop ends it as Ctrl-C does, if it runs, and shows the log of a failed test.
func (in *instance) stop() {
	_ = in.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-in.done:
	case <-time.After(patience):
		_ = in.cmd.Process.Kill()
		<-in.done
		in.t.Error("llmsup had to be killed")
	}
	if in.t.Failed() {
		in.t.Logf("log of llmsup:\n%s", in.logged())
	}
}

// await waits until the first server's status satisfies ok.
func (in *instance) await(what string, ok func(control.Server) bool) control.Server {
	in.t.Helper()
	return in.awaitServer(0, what, ok)
}

// awaitServer is await for the server at a place in the status.
func (in *instance) awaitServer(i int, what string, ok func(control.Server) bool) control.Server {
	in.t.Helper()
	var last control.Status
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s, err := in.client.Status(in.t.Context())
		if err != nil {
			in.t.Fatalf("status: %v", err)
		}
		if last = s; len(s.Servers) > i && ok(s.Servers[i]) {
			return s.Servers[i]
		}
	}
	in.t.Fatalf("not %s after a minute: %+v", what, last)
	return control.Server{}
}

func isReady(s control.Server) bool { return s.State == "ready" }

// awaitReady waits until the server answers.
func (in *instance) awaitReady() control.Server { return in.await("ready", isReady) }

// reply is an answer, read to its end.
type reply struct {
	status  int
	header  http.Header
	body    string
	readErr error // how reading it ended; nil = a clean end
}

func (r reply) backend() string { return r.header.Get("X-Llmsup-Backend") }
func (r reply) reason() string  { return r.header.Get("X-Llmsup-Reason") }

// post makes a call and reads its answer.
func (in *instance) post(path, body string) reply {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer client-secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatalf("POST %s: %v", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(answer), err}
}

// get returns what stands at a path.
func (in *instance) get(path string) string {
	in.t.Helper()
	resp, err := http.Get(in.url + path)
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(body)
}

// chat makes a chat call; more is put into its body after the messages.
func (in *instance) chat(model, more string) reply {
	in.t.Helper()
	name, err := json.Marshal(model)
	if err != nil {
		in.t.Fatal(err)
	}
	return in.post("/v1/chat/completions", `{"model":`+string(name)+`,"messages":[{"role":"user","content":"count"}]`+more+`}`)
}

// runs says whether a pid is a process that is not a zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
