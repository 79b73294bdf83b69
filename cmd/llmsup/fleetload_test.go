package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// TestFleetLoadsModel: while the only box that has the model loaded has a queue, calls make the other
// one load it, and none fails.
func TestFleetLoadsModel(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	servers := func(load string) string {
		return fmt.Sprintf("servers:\n  demo: {model: %s, load: %s, ctx_size: 8192, args: [-np, \"1\"]}\n", demoModel(t), load)
	}
	one := launchBox(t, nats.URL, "gpu1", servers("always"))
	two := launchBox(t, nats.URL, "gpu2", servers("on_demand"))
	one.awaitReady()
	const calls = 5                   // in the queue there is a place for each
	const long = `,"max_tokens":1200` // the next calls are expected to take as long
	made := 0
	// Both times are measured, on a machine that may be busy during one of them.
	if !eventually(testTimeout, func() bool {
		measureLoad(t, one, two)
		if _, out := one.run("route", "local/demo"); !strings.Contains(out, "it goes to demo as demo") {
			t.Errorf("gpu1 has a free slot: %s", out)
		}
		if r := one.chat("local/demo", long); r.status != 200 || r.backend() != "demo" {
			t.Errorf("gpu1 has a free slot: %d from %s", r.status, r.backend())
		}
		made++
		if s := two.server("demo"); s.State != "unloaded" {
			t.Errorf("gpu2 is %s before the box with the model is busy", s.State)
		}
		service, loads := one.awaitServer(0, "measured", func(s control.Server) bool { return s.ServiceSeconds != nil }).ServiceSeconds, loadOnOther(t, one)
		return loads != nil && *service*(calls-1) > 2**loads
	}) {
		t.Fatal("gpu2 never loads its model sooner than gpu1 answers its calls")
	}
	by := map[string]int{}
	for round := 0; round < 3 && by["gpu2/demo"] == 0; round++ { // gpu2 does not count while its announcements are late
		longCalls(t, one, calls, long, by)
		made += calls
	}
	if by["gpu2/demo"] == 0 || by["demo"] == 0 || len(by) != 2 {
		t.Errorf("the calls were answered by %v", by)
	}
	two.awaitReady()
	if rows := rowsOf(t, one); len(rows) != made {
		t.Errorf("%d rows of %d calls", len(rows), made)
	}
}

// measureLoad makes a box load and unload its model, and waits until the other one knows how long that took.
func measureLoad(t *testing.T, one, two *instance) {
	t.Helper()
	for _, command := range []string{"load", "unload"} {
		if code, out := two.run(command, "demo"); code != 0 {
			t.Fatalf("llmsup %s: %d: %s", command, code, out)
		}
	}
	if !eventually(testTimeout, func() bool { return loadOnOther(t, one) != nil }) {
		t.Fatal("gpu1 does not know how soon gpu2 loads its model")
	}
}

// loadOnOther returns in how many seconds a box expects the other one to have loaded its model; nil = it does not know
// that, or the model is loaded.
func loadOnOther(t *testing.T, one *instance) *float64 {
	t.Helper()
	known := answerOf(one, one.client.Boxes)
	if len(known.Boxes) != 2 || len(known.Boxes[1].Models) != 1 || known.Boxes[1].Models[0].State != "unloaded" || known.Boxes[1].Models[0].LoadSeconds == nil {
		return nil
	}
	return known.Boxes[1].Models[0].LoadsInSeconds
}

// longCalls makes calls at once, and counts the backends that answered them in by.
func longCalls(t *testing.T, one *instance, calls int, long string, by map[string]int) {
	t.Helper()
	answers := make(chan reply, calls)
	for range calls {
		go func() {
			var r reply
			defer func() { answers <- r }() // also if chat ends the goroutine
			r = one.chat("local/demo", long)
		}()
	}
	for range calls {
		r := <-answers
		if r.status != 200 || r.readErr != nil || !strings.Contains(r.body, `"completion_tokens":1200`) {
			t.Errorf("%d, %v: %.300s", r.status, r.readErr, r.body)
		}
		by[r.backend()]++
	}
}
