package main

import (
	"bufio"
	"context"
	"fmt"
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
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestDrainUnderLoad: from the first line of output on no call reaches the GPU, no call
// fails, and the fallback completes a stream that would take minutes.
//
// It is 50 calls a second. Streams have 1 s to end, or 5 s of their ten minutes if
// LLMSUP_TEST_REAL_TIMES is set.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	timeout, tokens := "1s", 600
	if os.Getenv("LLMSUP_TEST_REAL_TIMES") != "" {
		timeout, tokens = "5s", 8000
	}
	c := newCountingCloud(t)
	file := newTestConfig(t, fmt.Sprintf(`
servers:
  box: {model: %s, ctx_size: 32768, args: [-np, "8"]}
  slow: {model: %s, ctx_size: 32768, args: [-np, "2"]}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/box: {primary: box, fallback: openrouter, resume: true}
  local/slow: {primary: slow, fallback: openrouter, resume: true}
`, demoModel(t), demotest.Slow(t), c.URL))
	in := launch(t, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path)
	in.awaitServer(0, "ready", isReady)
	in.awaitServer(1, "ready", isReady)

	var streams sync.WaitGroup
	begun := make(chan struct{}, 2)
	for range 2 {
		streams.Go(func() { in.longStream(tokens, begun) })
	}
	<-begun
	<-begun

	ctx, stop := context.WithCancel(t.Context())
	load := in.load(ctx, 50)
	load.awaitCalls(t, 50)
	drain := exec.Command("llmsup", "drain", "--timeout", timeout, "--control-socket", in.state+"/c.sock")
	pipe, err := drain.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := drain.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	lines.Scan()
	drained := time.Now()
	output := lines.Text() + "\n"
	for lines.Scan() {
		output += lines.Text() + "\n"
	}
	if err := drain.Wait(); err != nil {
		t.Errorf("drain: %v\n%s", err, output)
	}
	for _, want := range []string{"slow: 2 calls have to end first\n", "slow: the time is over: 2 calls continue elsewhere\n", "box: its process (pid ", ") has ended\n"} {
		if !strings.Contains(output, want) {
			t.Errorf("the output has no %q:\n%s", want, output)
		}
	}
	if !strings.HasSuffix(output, "\ndrained; llmsup resume takes the servers into use again\n") {
		t.Errorf("the last line of\n%s", output)
	}
	streams.Wait()
	load.awaitCalls(t, load.count()+50)
	resumed := time.Now()
	if code, out := in.run("resume"); code != 0 || !strings.Contains(out, "box: has answered a test call, and is ready\n") || !strings.HasSuffix(out, "\nin use again\n") {
		t.Errorf("resume: exit %d\n%s", code, out)
	}
	back := time.Now()
	load.awaitCalls(t, load.count()+50)
	stop()
	backends := map[string]int{}
	for _, o := range load.end() {
		switch {
		case o.err != nil:
			t.Errorf("a call failed, %s after the first line: %v", o.began.Sub(drained), o.err)
		case o.began.After(drained) && o.began.Before(resumed):
			if backends["while drained: "+o.backend]++; o.backend != "openrouter" {
				t.Errorf("a call that began %s after the first line was answered by %s", o.began.Sub(drained), o.backend)
			}
		case o.began.After(back):
			backends["afterwards: "+o.backend]++
		}
	}
	if backends["while drained: openrouter"] < 40 || backends["afterwards: box"] == 0 {
		t.Errorf("calls: %v", backends)
	}
	t.Logf("%v\n%s", backends, output)
}

// longStream makes a streaming call to the slow server and checks its text.
func (in *instance) longStream(tokens int, begun chan<- struct{}) {
	begin := sync.OnceFunc(func() { begun <- struct{}{} })
	defer begin()
	resp, err := http.Post(in.url+"/v1/chat/completions", "application/json", strings.NewReader(fmt.Sprintf(
		`{"model":"local/slow","stream":true,"max_tokens":%d,"messages":[{"role":"user","content":"count"}]}`, tokens)))
	if err != nil {
		in.t.Error(err)
		return
	}
	defer resp.Body.Close()
	var text, other strings.Builder
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && data != "[DONE]" {
			text.WriteString(gjson.Get(data, "choices.0.delta.content").Str)
			if strings.Count(text.String(), " ") == 3 {
				begin()
			}
			continue
		}
		other.WriteString(lines.Text() + "\n")
	}
	if want := countFrom(1, tokens); lines.Err() != nil || text.String() != want || strings.Count(other.String(), "data: [DONE]") != 1 || !strings.Contains(other.String(), ": resumed by openrouter") {
		in.t.Errorf("%v: %d bytes of text, want %d; besides:\n%s", lines.Err(), text.Len(), len(want), other.String())
	}
}

// callOutcome is the result of a call of a load.
type callOutcome struct {
	began   time.Time
	backend string
	err     error
}

// load makes calls at a rate, until its context ends.
type load struct {
	mu    sync.Mutex
	calls []callOutcome
	all   sync.WaitGroup
}

func (in *instance) load(ctx context.Context, rate int) *load {
	l := &load{}
	l.all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			l.all.Go(func() {
				o := callOutcome{began: time.Now()}
				o.backend, o.err = in.countingCall(fmt.Sprint("load-", i))
				l.mu.Lock()
				l.calls = append(l.calls, o)
				l.mu.Unlock()
			})
		}
	})
	return l
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls)
}

// awaitCalls waits until n calls have ended.
func (l *load) awaitCalls(t *testing.T, n int) {
	t.Helper()
	if !eventually(testTimeout, func() bool { return l.count() >= n }) {
		t.Fatalf("%d calls after %s, want %d", l.count(), testTimeout, n)
	}
}

func (l *load) end() []callOutcome {
	l.all.Wait()
	return l.calls
}

func isDrained(s control.Server) bool { return s.State == "drained" }

// TestDrainSurvivesRestarts: a drain survives a stop and a kill of llmsup, until its time
// is over or an operator resumes the server.
func TestDrainSurvivesRestarts(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	in := launchIn(t, dir, nil, "--demo")
	in.awaitReady()
	if code, out := in.run("drain"); code != 1 || !strings.Contains(out, "nothing was done: no other backend can answer calls for local, local/demo: they would be rejected with 503 while the servers are drained; pass --yes to drain anyway") {
		t.Errorf("without a fallback: exit %d\n%s", code, out)
	}
	if !isReady(in.await("known", func(control.Server) bool { return true })) {
		t.Error("it was drained anyway")
	}
	if code, out := in.run("drain", "--yes", "--json"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	} else {
		for line := range strings.Lines(out) {
			if !gjson.Valid(line) || gjson.Get(line, "step").Str == "" || gjson.Get(line, "at").Time().IsZero() {
				t.Errorf("no step: %s", line)
			}
		}
	}
	if r := in.chat("local", `,"max_tokens":5`); r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "taken out of use by an operator") {
		t.Errorf("%+v", r)
	}
	if code, out := in.run("restart"); code != 1 || !strings.Contains(out, "llmsup resume") {
		t.Errorf("restart: exit %d\n%s", code, out)
	}
	in.stop()

	in = launchIn(t, dir, nil, "--demo")
	if s := in.await("drained", isDrained); s.PID != 0 || s.Restarts != 0 {
		t.Errorf("it was started: %+v", s)
	}
	if code, out := in.run("status", "--json"); code != 0 || gjson.Get(out, "drain.until").Type != gjson.Null || gjson.Get(out, "drain.since").Time().IsZero() {
		t.Errorf("%d %s", code, out)
	}
	if code, out := in.run("drain", "--yes", "--for", "2h"); code != 0 || !strings.Contains(out, "taken into use again at 20") {
		t.Errorf("joining it: exit %d\n%s", code, out)
	}
	_ = in.cmd.Process.Kill()
	<-in.done

	in = launchIn(t, dir, nil, "--demo")
	in.await("drained", isDrained)
	if code, out := in.run("status", "--json"); code != 0 || time.Until(gjson.Get(out, "drain.until").Time()) < time.Hour {
		t.Errorf("%d %s", code, out)
	}
	if code, out := in.run("drain", "--for", "1s"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	in.awaitReady() // by itself
	if _, err := os.Stat(filepath.Join(dir, "drain.json")); err == nil {
		t.Error("drain.json still exists")
	}
	if code, out := in.run("resume"); code != 0 || !strings.Contains(out, "demo: has answered a test call, and is ready\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
	in.stop()

	if err := os.WriteFile(filepath.Join(dir, "drain.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	in = launchIn(t, dir, nil, "--demo")
	if s := in.await("drained", isDrained); !strings.Contains(s.Reason, "drain.json cannot be read") {
		t.Errorf("%+v", s)
	}
	if code, out := in.run("resume"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestDrainIsCancelled: the process keeps running. The commands that waited for the
// drain report it; Ctrl-C of such a command changes nothing.
func TestDrainIsCancelled(t *testing.T) {
	t.Parallel()
	c := newCountingCloud(t)
	file := newTestConfig(t, fmt.Sprintf(`
servers:
  slow: {model: %s, ctx_size: 32768}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/slow: {primary: slow, fallback: openrouter, resume: true}
`, demotest.Slow(t), c.URL))
	in := launch(t, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path)
	before := in.awaitReady()
	begun := make(chan struct{}, 1)
	var stream sync.WaitGroup
	stream.Go(func() { in.longStream(2000, begun) })
	<-begun

	impatient := exec.Command("llmsup", "drain", "--control-socket", in.state+"/c.sock")
	var output strings.Builder
	impatient.Stdout, impatient.Stderr = &output, &output
	if err := impatient.Start(); err != nil {
		t.Fatal(err)
	}
	in.await("draining", func(s control.Server) bool { return s.State == "draining" })
	_ = impatient.Process.Signal(syscall.SIGINT)
	if err := impatient.Wait(); err == nil || !strings.Contains(output.String(), "llmsup: stopped watching; the drain continues; llmsup status shows it, and llmsup drain --cancel cancels it\n") {
		t.Errorf("%v: %s", err, output.String())
	}

	joined := []func() string{in.runUntil("", "drain"), in.runUntil("", "drain")} // each has joined the drain when it prints its first line
	if code, out := in.run("drain", "--cancel"); code != 0 || !strings.Contains(out, "slow: has answered a test call, and is ready\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, rest := range joined {
		if out := rest(); !strings.HasPrefix(out, "1 ") || !strings.HasSuffix(out, "the drain was cancelled (llmsup resume)\n") {
			t.Errorf("the waiting command printed %s", out)
		}
	}
	if now := in.awaitReady(); now.PID != before.PID {
		t.Error("the process was replaced")
	}
	if code, out := in.run("drain", "--timeout", "0s"); code != 0 { // the stream continues on the fallback at once
		t.Errorf("exit %d\n%s", code, out)
	}
	stream.Wait()
}

// TestDrainKeepsTheServer: with --keep-server no call reaches the server, and resume uses
// the same process.
func TestDrainKeepsTheServer(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo")
	before := in.awaitReady()
	if code, out := in.run("drain", "--keep-server", "-y"); code != 0 || !strings.Contains(out, fmt.Sprintf("its process (pid %d) keeps running and keeps its VRAM\n", before.PID)) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if s := in.await("drained", isDrained); s.PID != before.PID {
		t.Errorf("%+v", s)
	}
	if r := in.chat("local", `,"max_tokens":5`); r.status != 503 {
		t.Errorf("%+v", r)
	}
	if code, out := in.run("resume"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	if s := in.awaitReady(); s.PID != before.PID {
		t.Errorf("%+v", s)
	}
	if r := in.chat("local", `,"max_tokens":5`); r.status != 200 {
		t.Errorf("%+v", r)
	}
}

// TestDrainAsksAtATerminal: at a terminal, drain asks before it drains a server without
// a fallback, and takes every answer but yes for no.
func TestDrainAsksAtATerminal(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo")
	in.awaitReady()
	atTerminal := func(answer string) (output string, err error) {
		master, slave := openTerminal(t)
		cmd := exec.Command("llmsup", "drain", "--control-socket", in.state+"/c.sock")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = slave.Close()
		if _, err := master.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		screen, _ := io.ReadAll(master) // its end is an error: the other end is closed
		return string(screen), cmd.Wait()
	}
	for _, no := range []string{"\n", "n\n", "yep\n", "\x04"} {
		output, err := atTerminal(no)
		if err == nil || !strings.Contains(output, "they would be rejected with 503 while the servers are drained. Drain anyway? [y/N] ") || !strings.Contains(output, "llmsup: nothing was done") {
			t.Errorf("%q: %v\n%s", no, err, output)
		}
	}
	if s := in.await("known", func(control.Server) bool { return true }); !isReady(s) {
		t.Errorf("after four times no: %+v", s)
	}
	if output, err := atTerminal("y\n"); err != nil || !strings.Contains(output, "demo: it gets no new calls\r\n") || !strings.Contains(output, "\r\ndrained; llmsup resume") {
		t.Errorf("%v\n%s", err, output)
	}
	in.await("drained", isDrained)
}

// TestDrainThatCannotBeSaved: drain and resume report that the file cannot be written,
// and succeed.
func TestDrainThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo")
	in.awaitReady()
	if err := os.MkdirAll(filepath.Join(in.state, "drain.json", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	code, out := in.run("drain", "--yes")
	if code != 0 || !strings.HasPrefix(out, "demo: it gets no new calls\ncannot save the drain, so a restart of llmsup would end it: ") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := in.run("drain", "--for", "2h"); code != 0 || !strings.Contains(out, "cannot save the drain") || !strings.Contains(out, "taken into use again at 20") {
		t.Errorf("joining it: exit %d\n%s", code, out)
	}
	if code, out := in.run("resume"); code != 0 || !strings.Contains(out, "so a restart of llmsup would drain again: ") || !strings.HasSuffix(out, "\nin use again\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestDrainDuringResume: a resume that another drain overrides fails and says so.
func TestDrainDuringResume(t *testing.T) {
	t.Parallel()
	path, loads := gatedLlamaServer(t)
	in := launch(t, nil, "--demo", "--llama-server", path)
	in.awaitReady()
	if code, out := in.run("drain", "--yes"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	loads(false)
	resumes := []func() string{in.runUntil("", "resume"), in.runUntil("", "resume")}
	in.await("loading", func(s control.Server) bool { return s.State == "loading" })
	if code, out := in.run("drain", "--yes"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	loads(true)
	for _, rest := range resumes {
		if out := rest(); !strings.HasPrefix(out, "1 ") || !strings.HasSuffix(out, "\nthe servers are drained again\n") {
			t.Errorf("resume: %s", out)
		}
	}
	if code, out := in.run("resume"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestResumeOfAHungServer: resume fails if the server answers no test call.
func TestResumeOfAHungServer(t *testing.T) {
	t.Parallel()
	file := newTestConfig(t, fmt.Sprintf("servers:\n  box: {model: %s, stall_timeout: 20s}\n", demoModel(t))) // a busy machine may take seconds to start the command
	in := launch(t, nil, "--config", file.path)
	pid := in.awaitReady().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if code, out := in.run("resume"); code != 1 || strings.Contains(out, "has answered") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
