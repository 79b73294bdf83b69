package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
)

// TestDrainFreesTheGPU: a drain is done when the VRAM is free, and the driver is let
// go then, so that it can be changed. Afterwards it is asked whether there is room.
func TestDrainFreesTheGPU(t *testing.T) {
	t.Parallel()
	b, c := newGPUBox(t, nvmltest.Modern), newCloud(t)
	in := b.launch(c, quick, "--gpu", "0")
	before := in.awaitReady()
	holds := func() control.Server {
		now := in.awaitReady()
		b.change(func(box *nvmltest.Box) {
			box.GPUs[0].Used = 9 * gib1
			box.GPUs[0].Processes = []nvmltest.Process{{PID: now.PID, Used: 8 * gib1}}
		})
		in.await("known", func(s control.Server) bool {
			return s.VRAM != nil && s.VRAM.HeldBytes != nil && *s.VRAM.HeldBytes == 8*gib1
		})
		return now
	}
	holds()

	told := make(chan string)
	go func() {
		code, out := in.run("drain")
		told <- fmt.Sprint(code, " ", out)
	}()
	in.await("drained", drainedServer)
	select {
	case out := <-told:
		t.Errorf("it is done though the VRAM is not free: %s", out)
	case <-time.After(2 * time.Second): // as long as the driver takes, say
	}
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Used, box.GPUs[0].Processes = gib1, nil })
	if out := <-told; !strings.HasPrefix(out, "0 ") || !strings.Contains(out, "box: its VRAM is free: 8.0 GiB\ndrained; ") {
		t.Errorf("drain: %s", out)
	}
	in.await("at rest", func(control.Server) bool {
		s, err := in.client.Status(t.Context())
		return err == nil && strings.Contains(s.GPUProblem, "the driver is left alone while the servers are drained")
	})
	calls, err := os.ReadFile(b.calls)
	if err != nil {
		t.Fatal(err)
	}
	if inits, shutdowns := strings.Count(string(calls), "nvmlInit"), strings.Count(string(calls), "nvmlShutdown\n"); inits == 0 || inits != shutdowns || !strings.HasSuffix(string(calls), "nvmlShutdown\n") {
		t.Errorf("NVML was opened %d times, closed %d times, and called last with %q", inits, shutdowns, string(calls[max(0, len(calls)-60):]))
	}

	b.change(func(box *nvmltest.Box) { // somebody else has come
		g := &box.GPUs[0]
		g.Used = g.Total - g.Reserved - 50<<20
		g.Processes = []nvmltest.Process{{PID: os.Getpid(), Used: 16 * gib1}}
	})
	resumed := make(chan string)
	go func() {
		code, out := in.run("resume")
		resumed <- fmt.Sprint(code, " ", out)
	}()
	in.await("waiting", func(s control.Server) bool { return strings.Contains(s.Reason, "waiting for VRAM") })
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Used, box.GPUs[0].Processes = gib1, nil })
	if out := <-resumed; !strings.HasPrefix(out, "0 ") || !strings.Contains(out, "box: starting: waiting for VRAM: needs ") {
		t.Errorf("resume: %s", out)
	}
	if now := in.awaitReady(); now.PID == before.PID {
		t.Error("the process is the same")
	}

	holds() // and now its VRAM does not come back
	if code, out := in.run("drain"); code != 1 || !strings.Contains(out, "box: its VRAM is not free: 0 MiB of 8.0 GiB are back\n") || !strings.HasSuffix(out, "\ndrained, but not all VRAM is free; llmsup status shows who holds it\n") {
		t.Errorf("drain: exit %d\n%s", code, out)
	}
}
