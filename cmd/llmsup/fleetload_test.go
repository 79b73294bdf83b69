package main

import (
	"fmt"
	"strings"
	"testing"

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
	for _, command := range []string{"load", "unload"} { // so that its load is measured
		if code, out := two.run(command, "demo"); code != 0 {
			t.Fatalf("llmsup %s: %d: %s", command, code, out)
		}
	}
	if !eventually(testTimeout, func() bool {
		known, err := one.client.Boxes(t.Context())
		if err != nil || len(known.Boxes) != 2 || len(known.Boxes[1].Models) != 1 {
			return false
		}
		m := known.Boxes[1].Models[0]
		return m.State == "unloaded" && m.LoadSeconds != nil && m.LoadsInSeconds != nil
	}) {
		t.Fatal("gpu1 does not know how soon gpu2 loads its model")
	}
	if _, out := one.run("route", "local/demo"); !strings.Contains(out, "it goes to demo as demo") {
		t.Errorf("gpu1 has a free slot: %s", out)
	}
	const long = `,"max_tokens":1200` // the next calls are expected to take as long
	if r := one.chat("local/demo", long); r.status != 200 || r.backend() != "demo" {
		t.Errorf("gpu1 has a free slot: %d from %s", r.status, r.backend())
	}
	if s := two.server("demo"); s.State != "unloaded" {
		t.Errorf("gpu2 is %s before the box with the model is busy", s.State)
	}
	const calls = 5 // in the queue there is a place for each
	answers := make(chan reply, calls)
	for range calls {
		go func() {
			var r reply
			defer func() { answers <- r }() // also if chat ends the goroutine
			r = one.chat("local/demo", long)
		}()
	}
	by := map[string]int{}
	for range calls {
		r := <-answers
		if r.status != 200 || r.readErr != nil || !strings.Contains(r.body, `"completion_tokens":1200`) {
			t.Errorf("%d, %v: %.300s", r.status, r.readErr, r.body)
		}
		by[r.backend()]++
	}
	if by["gpu2/demo"] == 0 || by["demo"] == 0 || len(by) != 2 {
		t.Errorf("the calls were answered by %v", by)
	}
	two.awaitReady()
	if rows := rowsOf(t, one); len(rows) != calls+1 {
		t.Errorf("%d rows of %d calls", len(rows), calls+1)
	}
}
