package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
)

// TestDrainFreesTheGPU: a drain ends when the VRAM is free and llmsup has closed the
// driver, which can be replaced then. resume checks whether the VRAM suffices.
func TestDrainFreesTheGPU(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, fastVerdicts, "--gpu", "0")
	before := in.awaitReady()
	holds := func() control.Server {
		now := in.awaitReady()
		b.change(func(box *nvmltest.Box) {
			box.GPUs[0].Used = 9 * gib
			box.GPUs[0].Processes = []nvmltest.Process{{PID: now.PID, Used: 8 * gib}}
		})
		in.await("known", func(s control.Server) bool {
			return s.VRAM != nil && s.VRAM.HeldBytes != nil && *s.VRAM.HeldBytes == 8*gib
		})
		return now
	}
	holds()

	result := in.runInBackground("drain")
	in.await("drained", isDrained)
	from := b.samples()
	in.await("three samples later", func(control.Server) bool { return b.samples() > from+2 })
	select {
	case out := <-result:
		t.Errorf("drain ended although the VRAM is not free: %s", out)
	default:
	}
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Used, box.GPUs[0].Processes = gib, nil })
	if out := <-result; !strings.HasPrefix(out, "0 ") || !strings.Contains(out, "box: its VRAM is free: 8.0 GiB\ndrained; ") {
		t.Errorf("drain: %s", out)
	}
	in.await("at rest", func(control.Server) bool {
		s, err := in.client.Status(t.Context())
		return err == nil && strings.Contains(s.GPUProblem, "the NVIDIA driver is released while the servers are drained")
	})
	calls, err := os.ReadFile(b.calls)
	if err != nil {
		t.Fatal(err)
	}
	if inits, shutdowns := strings.Count(string(calls), "nvmlInit"), strings.Count(string(calls), "nvmlShutdown\n"); inits == 0 || inits != shutdowns || !strings.HasSuffix(string(calls), "nvmlShutdown\n") {
		t.Errorf("NVML was opened %d times, closed %d times, and called last with %q", inits, shutdowns, string(calls[max(0, len(calls)-60):]))
	}

	b.change(func(box *nvmltest.Box) { // another process takes the VRAM
		g := &box.GPUs[0]
		g.Used = g.Total - g.Reserved - 50<<20
		g.Processes = []nvmltest.Process{{PID: os.Getpid(), Used: 16 * gib}}
	})
	resumed := in.runUntil("box: starting: waiting for VRAM: needs ", "resume")
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Used, box.GPUs[0].Processes = gib, nil })
	if out := resumed(); !strings.HasPrefix(out, "0 ") {
		t.Errorf("resume: %s", out)
	}
	if now := in.awaitReady(); now.PID == before.PID {
		t.Error("the process is the same")
	}

	holds() // and now its VRAM does not come back
	if code, out := in.run("drain"); code != 1 || !strings.Contains(out, "box: its VRAM is not free: 0 MiB of 8.0 GiB are released\n") || !strings.HasSuffix(out, "\ndrained, but not all VRAM is free; llmsup status shows which processes hold it\n") {
		t.Errorf("drain: exit %d\n%s", code, out)
	}
}

// TestDrainOfOneServerAndTheGPU: the drain of one server waits for its VRAM only. llmsup
// closes the driver once all servers are drained and their processes have exited.
func TestDrainOfOneServerAndTheGPU(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	config := fmt.Sprintf(`
servers:
  chat: {model: %[1]s, gpu: "0"}
  mail: {model: %[1]s, gpu: "1"}
upstreams:
  openrouter: {base_url: "%[2]s/api/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/chat: {primary: chat, fallback: openrouter, fallback_model: vendor/chat}
  local/mail: {primary: mail, fallback: openrouter, fallback_model: vendor/mail}
  local: {primary: chat, fallback: openrouter, fallback_model: vendor/chat}
`, demoModel(t), c.URL) + fastVerdicts
	file := newTestConfig(t, config)
	in := launch(t, b.env(c.env()...), "--config", file.path)
	holds := func(server int) { // its process holds 8 GiB of the GPU of its own
		now := in.awaitServer(server, "ready", isReady)
		b.change(func(box *nvmltest.Box) {
			box.GPUs[server].Used = 9 * gib
			box.GPUs[server].Processes = []nvmltest.Process{{PID: now.PID, Used: 8 * gib}}
		})
		in.awaitServer(server, "known", func(s control.Server) bool {
			return s.VRAM != nil && s.VRAM.HeldBytes != nil && *s.VRAM.HeldBytes == 8*gib
		})
	}
	free := func(server int) {
		b.change(func(box *nvmltest.Box) { box.GPUs[server].Used, box.GPUs[server].Processes = gib, nil })
	}
	problem := func() string {
		s, err := in.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.GPUProblem
	}
	stillRead := func(after string) {
		t.Helper()
		before := b.samples()
		in.await("read again after "+after, func(control.Server) bool { return b.samples() > before+1 })
		if problem() != "" {
			t.Errorf("after %s: %s", after, problem())
		}
	}
	drain := func(server int, args ...string) {
		t.Helper()
		result := in.runInBackground(append([]string{"drain"}, args...)...)
		in.awaitServer(server, "drained", func(s control.Server) bool { return isDrained(s) && s.PID == 0 })
		free(server)
		if out := <-result; !strings.HasPrefix(out, "0 ") || !strings.Contains(out, args[0]+": its VRAM is free: 8.0 GiB\ndrained; ") {
			t.Errorf("drain %q: %s", args, out)
		}
	}
	must := func(line ...string) {
		t.Helper()
		if code, out := in.run(line...); code != 0 {
			t.Errorf("%q: exit %d\n%s", line, code, out)
		}
	}
	holds(0)
	holds(1)
	drain(0, "chat")
	stillRead("the drain of one")
	must("drain", "mail", "--keep-server")
	stillRead("a drain that keeps a process")
	drain(1, "mail")
	const atRest = "the NVIDIA driver is released while the servers are drained"
	in.await("at rest", func(control.Server) bool { return strings.Contains(problem(), atRest) })
	must("resume", "mail")
	stillRead("the return of one")
	must("drain", "mail")
	in.await("at rest", func(control.Server) bool { return strings.Contains(problem(), atRest) })

	// A server that a reload adds needs the driver, unless the drain is one of all.
	file.write(strings.Replace(config, "upstreams:", "  new: {model: "+demoModel(t)+", gpu: \"1\"}\nupstreams:", 1))
	must("reload")
	in.awaitServer(2, "ready", isReady)
	stillRead("a reload that adds a server")
	must("drain", "--yes")
	in.await("at rest", func(control.Server) bool { return strings.Contains(problem(), atRest) })

	// Once a reload has removed the only one in use, all are drained again.
	must("resume", "new")
	stillRead("the return of one")
	file.write(config)
	must("reload")
	in.await("at rest", func(control.Server) bool { return strings.Contains(problem(), atRest) })
}
