package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// runsVersion reports whether a box runs a version of the fleet's configuration.
func runsVersion(version uint64) func(control.Status) bool {
	return func(s control.Status) bool {
		return s.Fleet != nil && s.Fleet.Configuration != nil && s.Fleet.Configuration.Version == version
	}
}

// TestFleetConfig: two boxes get their keys, routes and budget from the fleet. One of them is
// new, has nothing but its place in the fleet, and takes no call before. It starts again with
// what it had when no NATS server runs.
func TestFleetConfig(t *testing.T) {
	nats := fleettest.Start(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("key", strings.Repeat("k", 32))
	box := func(name, more string) string {
		return write(name+".yaml", fmt.Sprintf("fleet: {nats: %q, name: %s, advertise: http://%s:8000, key_file: %s}\n%s", nats.URL, name, name, key, more))
	}
	first := box("gpu1", "routes: {of-the-file: {primary: demo}}\n")
	one := launch(t, nil, "--demo", "--gpu", "none", "--config", first)
	state, second := shortDir(t), box("gpu2", "")
	begin := func() *instance {
		return launchIn(t, state, nil, "--demo", "--gpu", "none", "--config", second, "--listen", "0.0.0.0:0")
	}
	two := begin()
	one.awaitReady()
	two.awaitStatus("connected", func(s control.Status) bool {
		return s.Fleet.Joined && s.Fleet.Others == 1 && s.Fleet.Configuration.Problem != ""
	})
	if a := two.chat("local", `,"max_tokens":3`); a.status != 503 || !strings.Contains(a.body, "no_keys_yet") {
		t.Errorf("a call to a box without keys: %+v", a)
	}
	for _, in := range []*instance{one, two} {
		if _, out := in.run("boxes"); !strings.Contains(out, "no keys yet") || !strings.Contains(out, "in use") {
			t.Errorf("llmsup boxes:\n%s", out)
		}
	}
	if _, out := two.run("status"); !strings.Contains(out, "rejects clients' calls, because neither llmsup.yaml nor the fleet has keys") {
		t.Errorf("llmsup status:\n%s", out)
	}
	if code, out := two.run("check", "--config", second, "--state-dir", state); code != 1 || !strings.Contains(out, "error    fleet: this box rejects clients' calls") {
		t.Errorf("llmsup check: %d\n%s", code, out)
	}

	hash := sha256.Sum256([]byte("client-secret"))
	shared := write("fleet.yaml", "keys: {app: {sha256: "+hex.EncodeToString(hash[:])+", operator: true}}\nroutes: {all: {primary: demo}, typo: {primary: opnrouter}}\nbudget: {daily: 5}\n")
	code, out := one.run("fleet", "push", shared)
	for _, want := range []string{
		"version 1 is in the fleet: keys, routes, budget", "gpu1 uses it", "gpu2 uses it",
		`warning: routes.typo: this box has no upstream "opnrouter", and no box has a server of that name now`,
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("llmsup fleet push: %d, no %q in\n%s", code, want, out)
		}
	}
	two.awaitReady()
	if _, out := two.run("boxes"); strings.Contains(out, "no keys yet") {
		t.Errorf("llmsup boxes of a box with keys:\n%s", out)
	}
	for _, in := range []*instance{one, two} {
		if a := in.request("POST", "/v1/chat/completions", `{"model":"all"}`); a.status != 401 {
			t.Errorf("a call without a key: %+v", a)
		}
		if a := in.chat("all", `,"max_tokens":3`); a.status != 200 {
			t.Errorf("a call with the fleet's key: %+v", a)
		}
		if a := in.chat("of-the-file", ""); a.status != 404 {
			t.Errorf("a call for a route of the file: %+v", a)
		}
	}
	if _, out := one.run("status"); !strings.Contains(out, "keys, routes, budget are from the fleet, version 1") || !strings.Contains(out, "routes of llmsup.yaml are not used") {
		t.Errorf("llmsup status:\n%s", out)
	}
	if _, out := two.run("status"); !strings.Contains(out, `fleet: routes.typo: this box has no upstream "opnrouter", and no box has a server of that name now`) || strings.Contains(out, "routes.all") {
		t.Errorf("llmsup status with a route to nothing:\n%s", out)
	}
	if r := one.request("GET", "/metrics", "", "X-Api-Key", "client-secret"); !strings.Contains(r.body, "llmsup_fleet_config_version 1\n") || !strings.Contains(r.body, "llmsup_fleet_config_refused 0\n") {
		t.Error("the metric of the version is missing")
	}
	if code, out := one.run("fleet", "diff", shared); code != 0 || !strings.Contains(out, "there is no difference between the fleet's version 1 and") {
		t.Errorf("llmsup fleet diff: %d\n%s", code, out)
	}
	_, pulled := one.run("fleet", "pull")
	if code, out := one.run("fleet", "diff", write("pulled.yaml", pulled)); code != 0 || !strings.Contains(out, "there is no difference") {
		t.Errorf("llmsup fleet diff with what was pulled: %d\n%s", code, out)
	}
	if code, out := one.run("fleet", "diff", write("other.yaml", "budget: {daily: 7}\n")); code != 1 || !strings.Contains(out, "-keys:") || !strings.Contains(out, "+budget: {daily: 7}") {
		t.Errorf("llmsup fleet diff with another file: %d\n%s", code, out)
	}
	for file, want := range map[string]string{
		write("none.yaml", "listen: 127.0.0.1:1\n"):            "none.yaml has none of the sections keys, routes, budget",
		write("bad.yaml", "routes:\n  m:\n    primry: demo\n"): `bad.yaml:3: unknown key "primry"`,
		filepath.Join(dir, "gone.yaml"):                        "gone.yaml: no such file or directory; name another file",
	} {
		if code, out := one.run("fleet", "push", file); code != 1 || !strings.Contains(out, want) {
			t.Errorf("llmsup fleet push %s: %d, no %q in\n%s", file, code, want, out)
		}
	}

	nats.Stop()
	_ = two.cmd.Process.Kill()
	<-two.done
	two = begin()
	two.awaitReady()
	if a := two.chat("all", `,"max_tokens":3`); a.status != 200 {
		t.Errorf("without NATS, after a restart, a call with the fleet's key: %+v", a)
	}
	if code, out := two.run("fleet", "push", shared); code != 1 || !strings.Contains(out, "this box is not in its fleet now: connect to NATS at nats://") {
		t.Errorf("llmsup fleet push without NATS: %d\n%s", code, out)
	}
	if code, out := two.run("fleet", "pull"); code != 0 || !strings.Contains(out, "This is what this box uses, since") || !strings.Contains(out, "primary: demo") {
		t.Errorf("llmsup fleet pull without NATS: %d\n%s", code, out)
	}
	nats.Restart(t) // it has lost nothing, or gets it again
	two.awaitStatus("back, with the same version", func(s control.Status) bool { return s.Fleet.Joined && runsVersion(1)(s) })
}
