package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// instance is a llmsup process that a test runs, as users do.
type instance struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string       // http://host:port, or with https
	http   *http.Client // that trusts its certificate
	client *control.Client
	state  string // its state directory
	mu     sync.Mutex
	log    bytes.Buffer
	done   chan struct{}
	err    error // of the process, once done is closed
}

// newInstance returns an instance with its state directory, whose process its caller starts.
func newInstance(t *testing.T, dir string) *instance {
	return &instance{t: t, state: dir, http: http.DefaultClient, client: control.NewClient(filepath.Join(dir, "c.sock")), done: make(chan struct{})}
}

// shortDir creates a folder whose path is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "llmsup") //nolint:usetesting // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// launch starts llmsup on a free port and waits until it listens. args follow the
// flags that separate it from other instances.
func launch(t *testing.T, env []string, args ...string) *instance {
	t.Helper()
	return launchIn(t, shortDir(t), env, args...)
}

// launchIn is launch with a state directory, which an earlier instance may have used.
func launchIn(t *testing.T, dir string, env []string, args ...string) *instance {
	t.Helper()
	all := append([]string{
		"start", "--listen", "127.0.0.1:0", "--state-dir", dir, "--control-socket", filepath.Join(dir, "c.sock"),
		"--llama-server", llamaServer(t), "--log-format", "json", "--log-level", "debug",
	}, args...)
	in := newInstance(t, dir)
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
	case <-time.After(testTimeout):
		t.Fatalf("llmsup does not listen after %s:\n%s", testTimeout, in.logged())
	}
	return in
}

// follow collects the log and reads the address from it.
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

// stop stops llmsup as Ctrl-C does, if it runs, and prints its log if the test failed.
func (in *instance) stop() {
	_ = in.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-in.done:
	case <-time.After(testTimeout):
		_ = in.cmd.Process.Kill()
		<-in.done
		in.t.Error("llmsup had to be killed")
	}
	if in.t.Failed() {
		in.t.Logf("log of llmsup:\n%s", in.logged())
	}
}

// ended reports whether the process has ended.
func (in *instance) ended() bool {
	select {
	case <-in.done:
		return true
	default:
		return false
	}
}

// await waits until the first server's status satisfies ok.
func (in *instance) await(what string, ok func(control.Server) bool) control.Server {
	in.t.Helper()
	return in.awaitServer(0, what, ok)
}

// awaitServer is await for the server with index i.
func (in *instance) awaitServer(i int, what string, ok func(control.Server) bool) control.Server {
	in.t.Helper()
	s := in.awaitStatus(what, func(s control.Status) bool { return len(s.Servers) > i && ok(s.Servers[i]) })
	return s.Servers[i]
}

// awaitStatus waits until the status satisfies ok.
func (in *instance) awaitStatus(what string, ok func(control.Status) bool) (last control.Status) {
	in.t.Helper()
	var err error
	if !eventually(testTimeout, func() bool {
		last, err = in.client.Status(in.t.Context())
		switch {
		case err == nil:
			return ok(last)
		case in.ended() || !errors.Is(err, control.ErrNoDaemon): // else it may be too busy for one in time
			in.t.Fatalf("status: %v", err)
		}
		return false
	}) {
		in.t.Fatalf("not %s after %s: %+v, %v", what, testTimeout, last, err)
	}
	return last
}

// awaitListening waits until the daemon answers on its control socket.
func (in *instance) awaitListening() {
	in.t.Helper()
	if !eventually(testTimeout, func() bool {
		_, err := in.client.Status(in.t.Context())
		return err == nil
	}) {
		in.t.Fatalf("llmsup does not answer after %s", testTimeout)
	}
}

// awaitLog waits until the log contains a text.
func (in *instance) awaitLog(text string) {
	in.t.Helper()
	if !eventually(testTimeout, func() bool { return strings.Contains(in.logged(), text) }) {
		in.t.Fatalf("the log does not contain %q", text)
	}
}

func isReady(s control.Server) bool { return s.State == "ready" }

// awaitReady waits until the first server is ready.
func (in *instance) awaitReady() control.Server { return in.await("ready", isReady) }

// reply is a response that was read completely.
type reply struct {
	status  int
	header  http.Header
	body    string
	readErr error // of reading the body; nil = complete
}

func (r reply) backend() string { return r.header.Get("X-Llmsup-Backend") }
func (r reply) reason() string  { return r.header.Get("X-Llmsup-Reason") }

// post makes a call and reads its answer.
func (in *instance) post(path, body string) reply {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), testTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer client-secret")
	resp, err := in.http.Do(req)
	if err != nil {
		in.t.Fatalf("POST %s: %v", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(answer), err}
}

// answerOf returns the daemon's answer to a request on its control socket, which is made again if the machine is too
// busy for an answer in time.
func answerOf[T any](in *instance, request func(context.Context) (T, error)) (answer T) {
	in.t.Helper()
	var err error
	_ = eventually(testTimeout, func() bool {
		answer, err = request(in.t.Context())
		return in.ended() || !errors.Is(err, control.ErrNoDaemon)
	})
	if err != nil {
		in.t.Fatal(err)
	}
	return answer
}

// get returns the body of a GET request.
func (in *instance) get(path string) string {
	in.t.Helper()
	resp, err := in.http.Get(in.url + path)
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

// chat makes a chat call. more is appended to the fields of its body.
func (in *instance) chat(model, more string) reply {
	in.t.Helper()
	name, err := json.Marshal(model)
	if err != nil {
		in.t.Fatal(err)
	}
	return in.post("/v1/chat/completions", `{"model":`+string(name)+`,"messages":[{"role":"user","content":"count"}]`+more+`}`)
}

// isRunning reports whether a process exists and is not a zombie.
func isRunning(pid int) bool {
	stat, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// awaitExit waits until none of the processes runs. TestKilledDaemon measures how long that takes.
func awaitExit(t *testing.T, pids ...int) {
	t.Helper()
	if !eventually(testTimeout, func() bool { return !slices.ContainsFunc(pids, isRunning) }) {
		t.Fatalf("of the processes %v at least one still runs", pids)
	}
}

// run runs a command of llmsup for this instance and returns its exit code and output.
func (in *instance) run(args ...string) (code int, output string) {
	in.t.Helper()
	return runCommand(in.t, append(args, "--control-socket", in.state+"/c.sock")...)
}

// runInBackground is run for a command that ends later. It returns the exit code and the output as one text; "" =
// the command did not end.
func (in *instance) runInBackground(args ...string) <-chan string {
	result := make(chan string, 1)
	go func() {
		var printed string
		defer func() { result <- printed }() // also if run ends the goroutine
		code, out := in.run(args...)
		printed = fmt.Sprint(code, " ", out)
	}()
	return result
}

// runUntil starts a command of llmsup and waits until it has printed a line with a text. rest waits for its end, and
// returns its exit code, that line and what it printed on stdout after it.
func (in *instance) runUntil(text string, args ...string) (rest func() string) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), testTimeout)
	in.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "llmsup", append(args, "--control-socket", in.state+"/c.sock")...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		in.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	lines, found := bufio.NewScanner(pipe), false
	for !found && lines.Scan() {
		found = strings.Contains(lines.Text(), text)
	}
	if !found {
		in.t.Fatalf("llmsup %q has printed no line with %q", args, text)
	}
	return func() string {
		output := lines.Text() + "\n"
		for lines.Scan() {
			output += lines.Text() + "\n"
		}
		_ = cmd.Wait() // its caller checks the exit code
		return fmt.Sprint(cmd.ProcessState.ExitCode(), " ", output)
	}
}

// reload runs llmsup reload.
func (in *instance) reload() (code int, output string) {
	in.t.Helper()
	return in.run("reload")
}

// runCommand runs llmsup to its end and returns its exit code, and its stdout and
// stderr together.
func runCommand(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "llmsup", args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("llmsup %q did not end: %s", args, out)
	case errors.As(err, &exit):
		return exit.ExitCode(), string(out)
	case err != nil:
		t.Fatal(err)
	}
	return 0, string(out)
}

// testConfig is a llmsup.yaml that a test changes.
type testConfig struct {
	t    *testing.T
	path string
}

func newTestConfig(t *testing.T, text string) testConfig {
	t.Helper()
	e := testConfig{t, filepath.Join(t.TempDir(), "llmsup.yaml")}
	e.write(text)
	return e
}

func (e testConfig) write(text string) {
	e.t.Helper()
	if err := os.WriteFile(e.path, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}
