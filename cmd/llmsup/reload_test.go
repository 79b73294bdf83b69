package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo"
)

func demoModel(t *testing.T) string {
	t.Helper()
	path, err := demo.Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReloadRoutes: a changed route applies to the next call; a wrong file changes
// nothing.
func TestReloadRoutes(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	head := fmt.Sprintf("upstreams:\n  openrouter: {base_url: %q, api_key_env: TEST_OPENROUTER_KEY}\n", c.URL)
	file := newTestConfig(t, head)
	in := launch(t, c.env(), "--config", file.path)
	if r := in.chat("mine", ""); r.status != 404 {
		t.Fatalf("%+v", r)
	}
	file.write(head + "routes:\n  mine: {primary: openrouter, primary_model: vendor/theirs}\n")
	if code, out := in.reload(); code != 0 || out != "route mine: added\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if r := in.chat("mine", ""); r.status != 200 || c.requestedModels()[0] != "vendor/theirs" {
		t.Errorf("%+v, asked for %q", r, c.requestedModels())
	}
	for text, want := range map[string]string{
		"routes:\n  mine: {primery: openrouter}\n":  file.path + `:2: unknown key "primery"; did you mean "primary"?; the old configuration stays`,
		head + "servers:\n  new: {model: /no.gguf}": "server new: read model /no.gguf: no such file or directory",
	} {
		file.write(text)
		if code, out := in.reload(); code != 1 || !strings.Contains(out, want) || strings.Count(out, "\n") != 1 {
			t.Errorf("exit %d, want 1 with %q:\n%s", code, want, out)
		}
		if r := in.chat("mine", ""); r.status != 200 {
			t.Errorf("after a reload that was refused: %+v", r)
		}
	}
	file.write(head)
	if code, out := in.reload(); code != 0 || out != "route mine: removed\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, out := in.reload(); code != 0 || out != "nothing has changed\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestReloadServers: a server whose command line changed is replaced once its calls have
// ended, a new one starts, a removed one stops, and the others keep running.
func TestReloadServers(t *testing.T) {
	t.Parallel()
	model := demoModel(t)
	entry := func(name, args string) string {
		return fmt.Sprintf("  %s: {model: %s, args: [%s]}\n", name, model, args)
	}
	file := newTestConfig(t, "servers:\n"+entry("a", "")+entry("b", "")+entry("old", ""))
	in := launch(t, nil, "--config", file.path)
	a, b := in.awaitServer(0, "ready", isReady), in.awaitServer(1, "ready", isReady)
	old := in.awaitServer(2, "ready", isReady)

	running := in.pausedCalls("local/old", old.PID)
	in.awaitServer(2, "busy", func(s control.Server) bool { return s.Busy == 2 })
	file.write("servers:\n" + entry("a", "") + entry("b", "-np, \"2\"") + entry("c", ""))
	code, out := in.reload()
	for _, want := range []string{
		"server c: added, and starting\n", "server b: changed; its process is replaced when its calls have ended\n",
		"server old: removed; it ends when its calls have\n", "route local/c: added\n", "route local/old: removed\n",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, out)
		}
	}
	if r := in.chat("local/old", ""); r.status != 404 {
		t.Errorf("a call for the removed server: %+v", r)
	}
	if now := in.awaitServer(3, "draining", func(s control.Server) bool { return s.State == "draining" }); now.PID != old.PID {
		t.Errorf("%+v", now)
	}
	running.Wait()
	again := in.awaitServer(1, "replaced", func(s control.Server) bool { return isReady(s) && s.PID != b.PID })
	if again.Slots != 2 || again.LastExit != nil {
		t.Errorf("b: %+v", again)
	}
	in.awaitServer(2, "ready", func(s control.Server) bool { return s.Name == "c" && isReady(s) })
	if !eventually(testTimeout, func() bool { return !isRunning(old.PID) }) {
		t.Fatal("the process of the removed server still runs")
	}
	in.await("alone with b and c", func(control.Server) bool { // and its name can be used again
		s, err := in.client.Status(t.Context())
		return err == nil && len(s.Servers) == 3
	})
	if now := in.awaitServer(0, "ready", isReady); now.PID != a.PID || now.Restarts != 0 {
		t.Errorf("a was restarted: %+v", now)
	}
	for _, model := range []string{"local/a", "local/b", "local/c"} {
		if r := in.chat(model, `,"max_tokens":1`); r.status != 200 {
			t.Errorf("%s: %+v", model, r)
		}
	}
}

// pausedCalls are two calls on a llama-server that is stopped until Wait, so that they
// run for as long as a test needs.
type pausedCalls struct {
	t     *testing.T
	pid   int
	calls sync.WaitGroup
}

// pausedCalls starts two calls on the llama-server with the given pid, and checks that
// they complete.
func (in *instance) pausedCalls(model string, pid int) *pausedCalls {
	in.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		in.t.Fatal(err)
	}
	p := &pausedCalls{t: in.t, pid: pid}
	for range 2 {
		p.calls.Go(func() {
			if r := in.chat(model, `,"max_tokens":40,"stream":true`); r.status != 200 || r.readErr != nil || !strings.Contains(r.body, "[DONE]") {
				in.t.Errorf("a running call: %+v", r)
			}
		})
	}
	return p
}

// Wait continues llama-server and waits until the calls have ended.
func (p *pausedCalls) Wait() {
	p.t.Helper()
	if err := syscall.Kill(p.pid, syscall.SIGCONT); err != nil {
		p.t.Error(err)
	}
	p.calls.Wait()
}

// TestReloadWithCalls: running calls complete on a server that is changed, or removed and
// added again.
func TestReloadWithCalls(t *testing.T) {
	t.Parallel()
	model := demoModel(t)
	entry := func(args string) string { return "servers:\n  box: {model: " + model + ", args: [" + args + "]}\n" }
	file := newTestConfig(t, entry(""))
	in := launch(t, nil, "--config", file.path)
	before := in.awaitReady()
	busy := func(s control.Server) bool { return s.Busy == 2 }

	running := in.pausedCalls("local/box", before.PID)
	in.await("busy", busy)
	file.write(entry(`-np, "2"`))
	if code, out := in.reload(); code != 0 {
		t.Errorf("exit %d:\n%s", code, out)
	}
	running.Wait()
	changed := in.await("replaced", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })

	running = in.pausedCalls("local/box", changed.PID)
	in.await("busy", busy)
	for _, text := range []string{"{}\n", entry(`-np, "3"`)} {
		file.write(text)
		if code, out := in.reload(); code != 0 {
			t.Errorf("exit %d:\n%s", code, out)
		}
	}
	running.Wait()
	again := in.await("back", func(s control.Server) bool { return isReady(s) && s.PID != changed.PID })
	if again.Slots != 3 {
		t.Errorf("%+v", again)
	}
	if s, err := in.client.Status(t.Context()); err != nil || len(s.Servers) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestReloadKeys: reload reports a changed API key. No llama-server can read one, even if
// it came with the reload.
func TestReloadKeys(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	key := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-key")
	head := fmt.Sprintf("upstreams:\n  openrouter: {base_url: %q, api_key_file: %s}\n", c.URL, key)
	file := newTestConfig(t, head)
	in := launch(t, []string{"LATER_KEY=sk-late-secret"}, "--config", file.path, "--demo")
	in.awaitReady()
	write("second-key")
	if code, out := in.reload(); code != 0 || out != "upstream openrouter: its key has changed\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if r := in.chat("gpt-4o", ""); r.status != 200 || c.auth[0] != "Bearer second-key" {
		t.Errorf("%+v", r)
	}
	write("")
	if code, out := in.reload(); code != 0 || !strings.Contains(out, "upstream openrouter: no longer has a key, so no call can go there; ") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	file.write(head + fmt.Sprintf("  other: {base_url: %q, api_key_env: LATER_KEY}\n", c.URL))
	if code, out := in.reload(); code != 0 || !strings.Contains(out, "upstream other: added\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	before := in.awaitReady()
	if code, out := in.run("restart"); code != 0 {
		t.Errorf("exit %d:\n%s", code, out)
	}
	after := in.await("replaced", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })
	environ, err := os.ReadFile("/proc/" + itoa(after.PID) + "/environ")
	if err != nil || strings.Contains(string(environ), "sk-late-secret") {
		t.Errorf("llama-server can read the key of an upstream (%v)", err)
	}
}

// TestReloadShowsNewLogs: logs --follow includes a server that a reload adds.
func TestReloadShowsNewLogs(t *testing.T) {
	t.Parallel()
	model := demoModel(t)
	file := newTestConfig(t, "{}\n")
	in := launch(t, nil, "--config", file.path, "--demo")
	in.awaitReady()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	begun, seen := make(chan struct{}), make(chan bool, 1)
	begin := sync.OnceFunc(func() { close(begun) })
	go func() {
		defer begin()
		_ = in.client.Logs(ctx, control.LogsRequest{Lines: 1, Follow: true}, func(line control.LogLine) error {
			begin()
			if line.Server == "later" {
				select {
				case seen <- true:
				default:
				}
			}
			return nil
		})
		close(seen)
	}()
	<-begun
	file.write("servers:\n  later: {model: " + model + "}\n")
	if code, out := in.reload(); code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	if !<-seen {
		t.Error("no line of it came")
	}
}

// TestReloadAfterFailure: a reload starts a failed server again, with a corrected flag or
// without any change.
func TestReloadAfterFailure(t *testing.T) {
	t.Parallel()
	model := demoModel(t)
	file := newTestConfig(t, "servers:\n  a: {model: "+model+", args: [--no-such-flag]}\n")
	in := launch(t, nil, "--config", file.path)
	failed := func(s control.Server) bool { return s.State == "failed" }
	if s := in.await("failed", failed); !strings.Contains(s.Reason, "--no-such-flag") || !strings.Contains(s.Reason, "llmsup reload") {
		t.Errorf("reason %q", s.Reason)
	}
	before := in.await("failed", failed).LastExit.At
	if code, out := in.reload(); code != 0 || out != "server a: had failed, and is started again\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
	in.await("failed again", func(s control.Server) bool { return failed(s) && s.LastExit.At.After(before) })
	file.write("servers:\n  a: {model: " + model + "}\n")
	if code, out := in.reload(); code != 0 || !strings.Contains(out, "server a: changed") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	in.awaitReady()
}

// TestReloadUnderLoad: during 100 reloads no call fails, and wrong files are rejected.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	model := demoModel(t)
	text := func(i int) string {
		return fmt.Sprintf("servers:\n  box: {model: %s, args: [-np, \"%d\"]}\nupstreams:\n  openrouter: {base_url: \"%s/api/v1\", api_key_env: TEST_OPENROUTER_KEY}\n"+
			"routes:\n  local/box: {primary: box, fallback: openrouter, fallback_model: v/m%d}\n", model, 2+i/10%2, c.URL, i)
	}
	file := newTestConfig(t, text(0))
	in := launch(t, c.env(), "--config", file.path)
	in.awaitReady()
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if r := in.chat("local/box", fmt.Sprintf(`,"max_tokens":20,"stream":%t`, i%2 == 0)); r.status != 200 || r.readErr != nil {
					t.Errorf("%+v", r)
					return
				}
			}
		})
	}
	for i := 1; i <= 100; i++ {
		if i%5 == 0 {
			file.write(text(i) + "nonsense: true\n")
		} else {
			file.write(text(i))
		}
		_, err := in.client.Reload(t.Context())
		if i%5 == 0 && (err == nil || !strings.Contains(err.Error(), file.path+":7: unknown key \"nonsense\"")) || i%5 != 0 && err != nil {
			t.Errorf("reload %d: %v", i, err)
		}
	}
	stop()
	callers.Wait()
}
