package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
	"github.com/llmsup/llmsup/router/ledger/ledgertest"
)

// TestLoadStatus: status, metrics and the ledger show which call waits for a model, for how
// long, and how far its load is, by the load before; and which model holds the GPU's VRAM.
func TestLoadStatus(t *testing.T) {
	t.Parallel()
	b := newGPUMachine(t, nvmltest.Modern)
	in := launch(t, b.env(), "--config", newTestConfig(t, onDemandConfig(demoModel(t), 1, "timeout: 5m")).path, "--llama-server", stoppedLlamaServer(t))
	defer b.followProcesses(in)()

	// call makes a call that waits for the model, and ends the load once its status holds.
	call := func(what string, holds func(control.Server) bool) {
		t.Helper()
		answer := make(chan reply, 1)
		go func() { answer <- in.chat("local/m0", `,"max_tokens":1`) }()
		now := in.await(what, func(s control.Server) bool {
			return s.State == "loading" && s.WaitingForModel == 1 && s.WaitingSince != nil && holds(s)
		})
		if code, out := in.run("status"); code != 0 || !strings.Contains(out, "a call has waited for it for") {
			t.Errorf("status: exit %d\n%s", code, out)
		}
		continueLoad(t, now.PID)
		if r := <-answer; r.status != 200 || r.backend() != "m0" || r.header.Get("X-Llmsup-Queue") != "1" {
			t.Errorf("%+v", r)
		}
	}
	const load = 15 * time.Second // the second load has a progress for as long
	call("it loads for the first time", func(s control.Server) bool {
		if s.LoadProgress != nil || s.ReadyExpected != nil {
			t.Errorf("its first load has a progress: %+v", s)
		}
		return time.Since(*s.WaitingSince) > load
	})
	s := in.awaitStatus("the VRAM is seen", func(s control.Status) bool {
		return slices.Contains(s.GPUs[0].MemoryParts, control.MemoryPart{Kind: "server", Server: "m0", Bytes: vramOfEach})
	})
	sum := uint64(0)
	for _, part := range s.GPUs[0].MemoryParts {
		sum += part.Bytes
	}
	if p := s.GPUs[0].Processes; sum != *s.GPUs[0].MemoryTotalBytes || len(p) != 1 || p[0].Server != "m0" || s.Servers[0].WaitingForModel != 0 {
		t.Errorf("%+v", s)
	}
	if code, out := in.run("status"); code != 0 || !strings.Contains(out, "\nGPU 0  AAAA") || !strings.Contains(out, "A m0 11.0 GiB") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if code, out := in.run("unload", "m0"); code != 0 {
		t.Fatalf("unload: exit %d\n%s", code, out)
	}
	call("it loads for the second time", func(s control.Server) bool {
		return s.LoadProgress != nil && *s.LoadProgress > 0 && *s.LoadProgress < 1 && s.ReadyExpected.After(time.Now())
	})
	if metrics := in.get("/metrics"); !strings.Contains(metrics, `llmsup_model_wait_seconds_count{server="m0"} 2`) {
		t.Errorf("/metrics has\n%s", metrics)
	}
	in.stop()
	calls := ledgertest.Calls(t, in.state)
	if len(calls) != 2 || slices.MaxFunc(calls, func(a, b ledgertest.Call) int { return int(a.Wait - b.Wait) }).Wait < load {
		t.Errorf("the ledger has %+v", calls)
	}
}
