package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/router/usd"
)

// reportBox is a box of TestFleetReports.
type reportBox struct {
	*instance
	calls int // local ones included
	local int
	cost  usd.Amount

	without string // name of the box that cannot answer; "" = none
}

// report runs a command that has to succeed, and returns its two outputs. A report of the fleet is made
// again if a box was too busy to be in it.
func (b *reportBox) report(args ...string) (out, warnings string) {
	b.t.Helper()
	if !slices.Contains(args, "--fleet") {
		return b.reportOnce(args...)
	}
	eventually(testTimeout, func() bool {
		out, warnings = b.reportOnce(args...)
		return !slices.ContainsFunc([]string{"gpu1", "gpu2", "gpu3"}, func(name string) bool {
			return name != b.without && strings.Contains(warnings, name+": it ")
		})
	})
	return out, warnings
}

func (b *reportBox) reportOnce(args ...string) (out, warnings string) {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), "llmsup", append(args, "--control-socket", filepath.Join(b.state, "c.sock"))...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("llmsup %q: %v\n%s", args, err, stderr.String())
	}
	return stdout.String(), stderr.String()
}

// reportJSON decodes what a command prints.
func reportJSON[T any](b *reportBox, args ...string) (value T, warnings string) {
	b.t.Helper()
	out, warnings := b.report(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &value); err != nil {
		b.t.Fatalf("%v in %s", err, out)
	}
	return value, warnings
}

// TestFleetReports: three boxes with ledgers, whose sums are exactly what an upstream has billed.
// A box that does not answer is named, and its calls are all that is missing.
func TestFleetReports(t *testing.T) {
	t.Parallel()
	nats, upstream := fleettest.Start(t), newBillingUpstream(t)
	var boxes []*reportBox
	for i, name := range []string{"gpu1", "gpu2", "gpu3"} {
		file := filepath.Join(t.TempDir(), "llmsup.yaml")
		fleetConfig(t, file, name, nats.URL)
		fleet, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(upstream.config(string(fleet))), 0o600); err != nil {
			t.Fatal(err)
		}
		b := &reportBox{instance: launch(t, upstream.env(), "--demo", "--gpu", "none", "--config", file), calls: 4*i + 3}
		before, _ := upstream.total()
		for range b.calls {
			if a := b.chat("gpt-4o", ""); a.status != 200 {
				t.Fatalf("a call: %+v", a)
			}
		}
		after, _ := upstream.total()
		b.cost = after - before
		boxes = append(boxes, b)
	}
	one, three := boxes[0], boxes[2]
	for _, b := range boxes {
		b.awaitReady()
		b.awaitStatus("in the fleet with two others", func(s control.Status) bool { return s.Fleet != nil && s.Fleet.Others == 2 })
	}
	one.chat("local", `,"max_tokens":3`) // a free call
	one.calls, one.local = one.calls+1, 1

	// wantSums compares the sums with what some boxes were billed.
	wantSums := func(when string, of []*reportBox, missing ...string) (warnings string) {
		t.Helper()
		u, warnings := reportJSON[control.Usage](one, "usage", "--fleet", "--by", "box")
		calls, local, cost := 0, 0, usd.Amount(0)
		for _, b := range of {
			calls, local, cost = calls+b.calls, local+b.local, cost+b.cost
		}
		if int(u.Total.Calls) != calls || u.Total.Cost == nil || usd.Amount(*u.Total.Cost) != cost || int(u.Total.Local) != local || len(u.Groups) != len(of) || len(u.Missing) != len(missing) {
			t.Errorf("%s: %d calls for %s USD expected: %+v", when, calls, cost, u)
		}
		for i, name := range missing {
			if i < len(u.Missing) && u.Missing[i].Box != name || !strings.Contains(warnings, "the sums lack "+name+": it ") {
				t.Errorf("%s: %s is missing, and the report says %+v, %q", when, name, u.Missing, warnings)
			}
		}
		if len(missing) == 0 && warnings != "" {
			t.Errorf("%s: %q", when, warnings)
		}
		return warnings
	}
	wantSums("all", boxes)
	if billed, _ := upstream.total(); billed != boxes[0].cost+boxes[1].cost+boxes[2].cost {
		t.Errorf("%s USD were billed", billed)
	}
	out, _ := one.report("usage", "--fleet", "--since", "1d")
	for _, want := range []string{"Usage of 3 boxes (gpu1, gpu2, gpu3) from", "calls   22", "BOX   CALLS", "gpu3     11", "gpt-4o     21", "DAY (UTC)"} {
		if !strings.Contains(out, want) {
			t.Errorf("llmsup usage --fleet has no %q:\n%s", want, out)
		}
	}
	if out, _ := one.report("usage", "--fleet", "--csv", "--by", "box"); !strings.Contains(out, "\ngpu3,11,0,0,11,") {
		t.Errorf("as CSV:\n%s", out)
	}

	page, warnings := reportJSON[control.CallsPage](boxes[1], "calls", "--fleet", "-n", "100")
	of := map[string]int{}
	for i, c := range page.Calls {
		of[c.Box]++
		if i > 0 && c.Time.After(page.Calls[i-1].Time) {
			t.Errorf("the calls are not sorted: %s, %s", page.Calls[i-1].Time, c.Time)
		}
	}
	if len(page.Calls) != 22 || of["gpu1"] != 4 || of["gpu3"] != 11 || warnings != "" || len(page.Missing) != 0 {
		t.Errorf("%d calls, %v, %q", len(page.Calls), of, warnings)
	}
	if page, _ := reportJSON[control.CallsPage](one, "calls", "--fleet", "-n", "2", "--model", "gpt-4o"); len(page.Calls) != 2 || page.Calls[0].Box != "gpu3" {
		t.Errorf("the last two calls: %+v", page.Calls)
	}
	// A call of another box is shown and cancelled here.
	if out, warnings := one.report("calls", "show", page.Calls[1].ID); !strings.Contains(out, "\nbox      gpu3\n") || warnings != "" {
		t.Errorf("a call of gpu3 is shown as\n%s%s", out, warnings)
	}
	endless := make(chan reply, 1)
	go func() { endless <- three.chat("local", `,"stream":true,"max_tokens":1000000,"ignore_eos":true`) }()
	if out, warnings := one.report("calls", "cancel", three.awaitCall("answering").ID); !strings.Contains(out, " on gpu3: local, after ") || warnings != "" {
		t.Errorf("a call of gpu3 is cancelled: %s%s", out, warnings)
	}
	if a := <-endless; !strings.Contains(a.body, "an operator cancelled this call") {
		t.Errorf("the cancelled call: %+v", a)
	}
	three.calls, three.local = three.calls+1, 1
	for _, command := range []string{"show", "cancel"} {
		if code, out := one.run("calls", command, "0000000000000000:1"); code != exitFailed || !strings.Contains(out, " on gpu1, gpu2, gpu3\n") {
			t.Errorf("llmsup calls %s of a call that does not exist: exit code %d, %s", command, code, out)
		}
	}
	for command, wants := range map[string][]string{
		"calls":  {"ENDED   BOX   KEY", "gpu3  tool  openrouter"},
		"status": {"3 boxes, 0 calls in flight", "SERVER  BOX   STATE", "demo    gpu3  ready"},
		"boxes":  {"gpu1 *  in use", "2 others", "gpu3    demo   ready"},
	} {
		out, warnings := one.report(command, "--fleet")
		for _, want := range wants {
			if !strings.Contains(out, want) || warnings != "" {
				t.Errorf("llmsup %s --fleet has no %q:\n%s%s", command, want, out, warnings)
			}
		}
	}
	if out, _ := one.report("boxes", "--json"); strings.Count(out, `"gpus":[]`) != 3 {
		t.Errorf("a list is null:\n%s", out)
	}
	for _, args := range [][]string{{"usage", "--by", "box"}, {"calls", "-f", "--fleet"}} {
		if code, out := one.run(args...); code != exitUsage {
			t.Errorf("llmsup %q: exit code %d, %s", args, code, out)
		}
	}

	// A box that hangs, one that was killed, and one that is back.
	_ = three.cmd.Process.Signal(syscall.SIGSTOP)
	one.without = "gpu3"
	wantSums("gpu3 hangs", boxes[:2], "gpu3")
	_ = three.cmd.Process.Signal(syscall.SIGCONT)
	one.without = ""
	one.awaitStatus("with both others again", func(s control.Status) bool { return s.Fleet.Others == 2 })
	wantSums("gpu3 goes on", boxes)
	three.stop()
	one.without = "gpu3"
	one.awaitStatus("without gpu3", func(s control.Status) bool { return s.Fleet.Others == 1 })
	if warnings := wantSums("gpu3 has stopped", boxes[:2], "gpu3"); !strings.Contains(warnings, "it has left the fleet ") {
		t.Errorf("the report says %q", warnings)
	}
	if out, _ := one.report("boxes"); !strings.Contains(out, "gpu3    has left") {
		t.Errorf("llmsup boxes:\n%s", out)
	}

	// Alone, and without a fleet.
	nats.Stop()
	one.awaitStatus("alone", func(s control.Status) bool { return !s.Fleet.Joined })
	u, warnings := reportJSON[control.Usage](one, "usage", "--fleet")
	if int(u.Total.Calls) != one.calls || u.Fleet.Joined || !strings.HasPrefix(warnings, "the sums lack all boxes but this one (gpu1), which is not in its fleet: ") || strings.Count(warnings, "\n") != 1 {
		t.Errorf("alone: %+v, %q", u, warnings)
	}
	none := launch(t, nil, "--demo", "--gpu", "none")
	for _, command := range []string{"usage", "calls", "status", "boxes"} {
		if code, out := none.run(command, "--fleet"); code != exitFailed || !strings.Contains(out, "this box is in no fleet; fleet: in llmsup.yaml joins one") {
			t.Errorf("llmsup %s --fleet without a fleet: exit code %d, %s", command, code, out)
		}
	}
}
