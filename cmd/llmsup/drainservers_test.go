package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestDrainsOfSeveralServers: a drain that waits for its calls does not block others, and
// resuming one server does not cancel the drain of the others.
func TestDrainsOfSeveralServers(t *testing.T) {
	c := newCountingCloud(t)
	file := newTestConfig(t, fmt.Sprintf(`
servers:
  mail: {model: %s}
  slow: {model: %s, ctx_size: 32768}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local: {primary: mail, fallback: openrouter}
  local/mail: {primary: mail, fallback: openrouter}
  local/slow: {primary: slow, fallback: openrouter, resume: true}
`, demoModel(t), demotest.Slow(t), c.URL))
	in := launch(t, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path)
	in.awaitServer(0, "ready", isReady)
	slow := in.awaitServer(1, "ready", isReady)
	begun := make(chan struct{}, 1)
	var stream sync.WaitGroup
	stream.Go(func() { in.longStream(3000, begun) })
	<-begun

	const waits = "slow: 1 call has to end first"
	one := in.runUntil(waits, "drain", "--yes", "slow")
	if code, out := in.run("drain", "mail"); code != 0 || !strings.HasSuffix(out, "\ndrained; llmsup resume mail takes mail into use again\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
	all := in.runUntil(waits, "drain", "--yes")
	if code, out := in.run("resume", "mail"); code != 0 || strings.Contains(out, "slow") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if out := all(); !strings.HasPrefix(out, "1 ") || !strings.HasSuffix(out, "\nthe drain of mail was cancelled (llmsup resume)\n") {
		t.Errorf("the drain of all: %s", out)
	}
	if now := in.awaitServer(1, "draining", func(s control.Server) bool { return s.State == "draining" }); now.PID != slow.PID || now.Drain == nil {
		t.Errorf("%+v", now)
	}
	if r := in.chat("local/mail", `,"max_tokens":5`); r.status != 200 || r.backend() != "mail" {
		t.Errorf("%+v", r)
	}
	if code, out := in.run("drain", "--cancel", "slow"); code != 0 || strings.Contains(out, "mail") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if out := one(); !strings.HasPrefix(out, "1 ") || !strings.HasSuffix(out, "\nthe drain was cancelled (llmsup resume)\n") {
		t.Errorf("the drain of one: %s", out)
	}
	if now := in.awaitServer(1, "ready", isReady); now.PID != slow.PID {
		t.Errorf("its process was replaced: %+v", now)
	}
	if code, out := in.run("drain", "--timeout", "0s"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	stream.Wait()
}

// TestLogsOfOneServerFollowAReload: logs --follow NAME also follows a server of that name
// that a later reload adds.
func TestLogsOfOneServerFollowAReload(t *testing.T) {
	both := fmt.Sprintf("servers:\n  chat: {model: %[1]s}\n  mail: {model: %[1]s}\n", demoModel(t))
	file := newTestConfig(t, both)
	in := launch(t, nil, "--config", file.path)
	in.awaitServer(0, "ready", isReady)
	first := in.awaitServer(1, "ready", isReady)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	lines := make(chan control.LogLine, 10_000)
	go func() {
		_ = in.client.Logs(ctx, control.LogsRequest{Servers: []string{"mail"}, Lines: 1, Follow: true}, func(line control.LogLine) error {
			lines <- line
			return nil
		})
		close(lines)
	}()
	<-lines                                                                   // it has begun to follow
	if r := in.chat("local/chat", `,"max_tokens":1`); r.backend() != "chat" { // which makes chat print something
		t.Errorf("%+v", r)
	}
	file.write(strings.Split(both, "  mail")[0])
	if code, out := in.reload(); code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	in.await("removed", func(control.Server) bool {
		s, err := in.client.Status(t.Context())
		return err == nil && len(s.Servers) == 1
	})
	file.write(both)
	if code, out := in.reload(); code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	again := in.awaitServer(1, "ready", isReady)
	if again.PID == first.PID {
		t.Error("it is the same process")
	}
	for line := range lines {
		if line.Server != "mail" {
			t.Errorf("a line of %s", line.Server)
		}
		if strings.Contains(line.Text, "model loaded") {
			return
		}
	}
	t.Error("no line of the new process came")
}

// TestDrainedServerIsRemovedAndAddedAgain: its drain ends with the removal, even if its
// calls have not ended.
func TestDrainedServerIsRemovedAndAddedAgain(t *testing.T) {
	both := fmt.Sprintf("servers:\n  chat: {model: %[1]s}\n  mail: {model: %[1]s}\n", demoModel(t))
	file := newTestConfig(t, both)
	in := launch(t, nil, "--config", file.path)
	in.awaitServer(0, "ready", isReady)
	before := in.awaitServer(1, "ready", isReady)
	if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ended := make(chan reply, 1)
	go func() { ended <- in.chat("local/mail", `,"max_tokens":5`) }()
	in.awaitServer(1, "busy", func(s control.Server) bool { return s.Busy == 1 })
	drained := make(chan control.Step, 1)
	go func() {
		var last control.Step
		_ = in.client.Drain(t.Context(), control.DrainRequest{Servers: []string{"mail"}, Yes: true}, func(s control.Step) error { last = s; return nil })
		drained <- last
	}()
	in.awaitServer(1, "draining", func(s control.Server) bool { return s.State == "draining" && s.Drain != nil })
	for _, config := range []string{strings.Split(both, "  mail")[0], both} {
		file.write(config)
		if code, out := in.reload(); code != 0 {
			t.Errorf("exit %d\n%s", code, out)
		}
		in.awaitServer(1, "not drained", func(s control.Server) bool { return s.State == "draining" && s.Drain == nil })
	}
	if err := syscall.Kill(before.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r.status != 200 || r.backend() != "mail" {
		t.Errorf("the running call: %+v", r)
	}
	in.awaitServer(1, "replaced", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })
	if last := <-drained; last.Step != control.StepCancelled || !strings.Contains(last.Text, "a reload has removed mail") {
		t.Errorf("the drain ended with %+v", last)
	}
}
