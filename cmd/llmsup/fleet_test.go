package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// fleetConfig writes the configuration of a box.
func fleetConfig(t *testing.T, file, box, nats string) {
	t.Helper()
	key := filepath.Join(filepath.Dir(file), "fleet-key")
	for path, text := range map[string]string{
		key: strings.Repeat("k", 32), file: fmt.Sprintf("fleet: {nats: %q, name: %s, advertise: http://%s:8000, key_file: %s}\n", nats, box, box, key),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFleet: two boxes with real llama-servers see each other, and each other's drains.
func TestFleet(t *testing.T) {
	nats := fleettest.Start(t)
	files := map[string]string{}
	boxes := map[string]*instance{}
	for _, name := range []string{"gpu1", "gpu2"} {
		files[name] = filepath.Join(t.TempDir(), "llmsup.yaml")
		fleetConfig(t, files[name], name, nats.URL)
		boxes[name] = launch(t, nil, "--demo", "--gpu", "none", "--config", files[name])
	}
	one, two := boxes["gpu1"], boxes["gpu2"]
	for _, box := range boxes {
		box.awaitReady()
		box.awaitStatus("in the fleet with the other one", func(s control.Status) bool { return s.Fleet != nil && s.Fleet.Joined && s.Fleet.Others == 1 })
	}
	other := func(what string, is func(control.Box) bool) control.Box {
		t.Helper()
		var last control.Boxes
		if !eventually(testTimeout, func() bool {
			last = answerOf(one, one.client.Boxes)
			return len(last.Boxes) == 2 && is(last.Boxes[1])
		}) {
			t.Fatalf("gpu1 does not see gpu2 %s: %+v", what, last)
		}
		return last.Boxes[1]
	}
	ready := other("with its model ready", func(b control.Box) bool { return len(b.Models) == 1 && b.Models[0].State == "ready" })
	if m := ready.Models[0]; ready.Name != "gpu2" || ready.This || m.Name != "demo" || m.Free == nil || *m.Free != *m.Slots || m.LoadSeconds == nil || ready.Address != "http://gpu2:8000" {
		t.Errorf("gpu2 is %+v", ready)
	}
	if a := two.chat("local", `,"max_tokens":3`); a.status != 200 {
		t.Errorf("a call: %+v", a)
	}
	other("with its speed", func(b control.Box) bool { return b.Models[0].FirstTokenSeconds != nil })

	_, out := one.run("boxes")
	for _, want := range []string{"gpu1 *", "gpu2 ", "http://gpu2:8000", "in use", "demo", "ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("llmsup boxes has no %q:\n%s", want, out)
		}
	}
	if _, out := one.run("status"); !strings.Contains(out, "fleet: this box is gpu1, and knows 1 other box") {
		t.Errorf("llmsup status:\n%s", out)
	}
	if page := one.get("/metrics"); !strings.Contains(page, `llmsup_fleet_joined{box="gpu1"} 1`) || !strings.Contains(page, "llmsup_fleet_other_boxes 1") {
		t.Error("the metrics of the fleet are missing")
	}

	drained := make(chan time.Time, 1)
	go func() {
		_ = two.client.Drain(t.Context(), control.DrainRequest{Yes: true}, func(control.Step) error {
			select {
			case drained <- time.Now():
			default: // only the first step
			}
			return nil
		})
	}()
	other("drained", func(b control.Box) bool { return b.Drained && b.Models[0].Drained })
	t.Logf("gpu1 saw gpu2's drain %s after its first step", time.Since(<-drained).Round(time.Millisecond))

	// A third box with a name that is taken, and one that leaves by a reload.
	file := filepath.Join(t.TempDir(), "llmsup.yaml")
	fleetConfig(t, file, "gpu1", nats.URL)
	third := launch(t, nil, "--demo", "--gpu", "none", "--config", file)
	s := third.awaitStatus("refused", func(s control.Status) bool { return strings.Contains(s.Fleet.Problem, "has the name gpu1") })
	if s.Fleet.Joined {
		t.Errorf("two boxes have one name: %+v", s.Fleet)
	}
	third.awaitReady()
	if a := third.chat("local", `,"max_tokens":3`); a.status != 200 { // it serves alone
		t.Errorf("a call: %+v", a)
	}
	if code, out := runCommand(t, "check", "--config", file, "--gpu", "none", "--state-dir", shortDir(t), "--listen", "127.0.0.1:0",
		"--llama-server", llamaServer(t), "--control-socket", filepath.Join(shortDir(t), "c.sock")); code != 1 || !strings.Contains(out, "fleet: another box at http://gpu1:8000 has the name gpu1") {
		t.Errorf("llmsup check:\n%s", out)
	}
	if err := os.WriteFile(files["gpu2"], []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changes, err := two.client.Reload(t.Context())
	if err != nil || !strings.Contains(strings.Join(changes, "\n"), "fleet: changed") {
		t.Errorf("the reload: %v, %v", changes, err)
	}
	one.awaitStatus("without gpu2", func(s control.Status) bool { return s.Fleet.Others == 0 })
	if s, err := two.client.Status(t.Context()); err != nil || s.Fleet != nil {
		t.Errorf("gpu2 is in the fleet %+v, %v", s.Fleet, err)
	}
	if _, out := two.run("boxes"); !strings.Contains(out, "this box is in no fleet") {
		t.Errorf("llmsup boxes without a fleet:\n%s", out)
	}

	third.stop() // it would take the name if it joined first
	nats.Stop()
	one.awaitStatus("alone", func(s control.Status) bool { return !s.Fleet.Joined && s.Fleet.Problem != "" })
	if a := one.chat("local", `,"max_tokens":3`); a.status != 200 {
		t.Errorf("a call: %+v", a)
	}
	nats.Restart(t)
	one.awaitStatus("back", func(s control.Status) bool { return s.Fleet.Joined })
}
