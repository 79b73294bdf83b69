package main

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestDrainMovesTheQueue: queued calls go to the fallback at once, and the running one
// completes. At a terminal a line shows how many calls are running, and the next line
// replaces it.
func TestDrainMovesTheQueue(t *testing.T) {
	t.Parallel()
	c := newCountingCloud(t)
	file := newTestConfig(t, fmt.Sprintf(`
servers:
  box: {model: %s, ctx_size: 32768, args: [-np, "1"]}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/box: {primary: box, fallback: openrouter}
`, demoModel(t), c.URL))
	in := launch(t, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path)
	pid := in.awaitReady().PID
	// A stopped llama-server keeps its call for as long as the test needs.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var running reply
	go func() {
		defer close(ended)
		running = in.chat("local/box", `,"max_tokens":100,"stream":true`)
	}()
	in.await("one runs", func(s control.Server) bool { return s.Busy == 1 })
	var queued sync.WaitGroup
	for i := range 2 {
		queued.Go(func() {
			r := in.chat("local/box", fmt.Sprintf(`,"max_tokens":5,"stream":%t`, i == 0))
			select {
			case <-ended:
				t.Error("a queued call was still waiting")
			default:
			}
			if r.status != 200 || r.backend() != "openrouter" || r.reason() != "draining" {
				t.Errorf("a call that waited: %+v", r)
			}
		})
	}
	in.await("one runs, and two wait", func(s control.Server) bool { return s.Busy == 1 && s.Queued == 2 })

	master, slave := openTerminal(t)
	drain := exec.Command("llmsup", "drain", "--control-socket", in.state+"/c.sock")
	drain.Stdin, drain.Stdout, drain.Stderr = slave, slave, slave
	if err := drain.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	queued.Wait()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	screen, _ := io.ReadAll(master) // its end is an error: the other end is closed
	if err := drain.Wait(); err != nil {
		t.Error(err)
	}
	if output := string(screen); !strings.HasPrefix(output, "box: it gets no new calls, and 2 waiting calls have left the queue\r\n"+
		"box: 1 call has to end first\r\x1b[Kbox: ") || !strings.HasSuffix(output, "\r\ndrained; llmsup resume takes the servers into use again\r\n") {
		t.Errorf("%q", output)
	}
	<-ended
	if running.readErr != nil || running.backend() != "box" || !strings.HasSuffix(running.body, "data: [DONE]\n\n") {
		t.Errorf("the call that ran: %+v", running)
	}
}
