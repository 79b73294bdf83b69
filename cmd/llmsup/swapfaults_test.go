package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
)

// inState waits until a server is in a state.
func (in *instance) inState(name, state string) (found control.Server) {
	in.t.Helper()
	in.awaitStatus(name+" "+state, func(s control.Status) bool {
		for _, server := range s.Servers {
			if server.Name == name {
				found = server
				return server.State == state
			}
		}
		return false
	})
	return found
}

// TestForeignProcessDuringALoad: a process that is not llmsup's takes the VRAM while a model
// loads. The load fails, the model's need stays as it was, and the call is answered once the
// process is gone; meanwhile the model's reason names it.
func TestForeignProcessDuringALoad(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	sizes := map[string]int{"a": 11, "b": 3}
	m.setSizes(sizes)
	m.paused["a"] = true
	in := m.launch(newTestConfig(t, m.config(nil, "timeout: 5m", sizes)).path)
	need := *in.awaitModel("a", "known", func(m control.Model) bool { return m.VRAMNeedBytes != nil }).VRAMNeedBytes
	traffic := newSwapTraffic(t, in, nil)
	traffic.call("a", 10, true)
	if now := in.inState("a", "loading"); !strings.HasSuffix(now.Reason, "are read") { // in its first load
		t.Errorf("%+v", now)
	}
	m.set(func() {
		m.foreign = []nvmltest.Process{{PID: os.Getpid(), Used: 16 * gib}}
		m.paused["a"] = false
	})
	holder := fmt.Sprintf("held by pid %d", os.Getpid())
	now := in.awaitModel("a", "waiting", func(m control.Model) bool { return strings.Contains(m.Reason, holder) })
	if now.State != "unloaded" || !strings.Contains(now.Reason, "16.0 GiB") {
		t.Errorf("%+v", now)
	}
	if starts, refused := m.countStarts("a"); starts != 1 || refused != 1 {
		t.Errorf("%d starts, %d of them without VRAM", starts, refused)
	}
	traffic.call("b", 10, false) // there is room for another one
	traffic.await("b", "b", 1)
	m.set(func() { m.foreign[0].Used = 8 * gib }) // room for a and b, but not for a quarter more
	traffic.await("a", "a", 1)
	traffic.end()
	if now := in.model("a"); *now.VRAMNeedBytes != need {
		t.Errorf("its need was %d, and is %d", need, *now.VRAMNeedBytes)
	}
	in.checkNothingLeft()
}

// TestTooLargeForTheGPU: calls for a model that is larger than the GPU go to the fallback, or
// get one error that no client repeats. No process is started for it.
func TestTooLargeForTheGPU(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	cloud := newCountingCloud(t)
	sizes := map[string]int{"a": 11, "huge": 30}
	m.setSizes(sizes)
	config := m.config(cloud, "timeout: 5m", sizes) + "  local/only: {primary: huge, timeout: 5m}\n"
	in := m.launch(newTestConfig(t, config).path, cloudEnv)
	traffic := newSwapTraffic(t, in, cloud)
	traffic.call("a", 10, false)
	in.inState("a", "ready")
	for range 3 {
		traffic.call("huge", 10, true)
		r := in.chat("local/only", `,"max_tokens":3`) // it does not wait for the route's timeout
		if r.status != 503 || r.header.Get("x-should-retry") != "false" || !strings.Contains(r.body, "it needs 30.1 GiB, and GPU 0 has 24.0 GiB") {
			t.Errorf("%+v", r)
		}
	}
	traffic.await("huge", "openrouter", 3)
	const reason = "it cannot be loaded: it needs 30.1 GiB, and GPU 0 has 24.0 GiB"
	if now := in.model("huge"); now.State != "unloaded" || now.Reason != reason {
		t.Errorf("%+v", now)
	}
	if code, out := in.run("load", "huge"); code != 1 || !strings.Contains(out, reason) {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, out := in.run("status"); code != 0 || !strings.Contains(out, reason) {
		t.Errorf("exit %d:\n%s", code, out)
	}
	traffic.end()
	if starts, _ := m.countStarts("huge"); starts != 0 {
		t.Errorf("it was started %d times", starts)
	}
	if now := in.inState("a", "ready"); now.Restarts != 0 || in.model("a").Unloads["for_another"] != 0 {
		t.Errorf("another model was unloaded for it: %+v", now)
	}
}

// TestBrokenModelOnDemand: a file that no llama-server can load is tried twice, and then not
// again until it is replaced or an operator asks for it. Calls go to the fallback, or get an
// error that no client repeats.
func TestBrokenModelOnDemand(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	cloud := newCountingCloud(t)
	good, err := os.ReadFile(demoModel(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	write := func(content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good[:len(good)/2])
	config := m.config(cloud, "timeout: 5m", map[string]int{"b": 11})
	config = strings.Replace(config, "servers:\n", "servers:\n  a: {model: "+path+", load: on_demand, vram: 11GiB, gpu: \"0\"}\n", 1)
	config += "  local/a: {primary: a, fallback: openrouter, fallback_model: vendor/chat}\n  local/only: {primary: a, timeout: 5m}\n"
	in := m.launch(newTestConfig(t, config).path, cloudEnv)
	traffic := newSwapTraffic(t, in, cloud)
	failed := func(starts int) {
		t.Helper()
		now := in.inState("a", "failed")
		if !strings.Contains(now.Reason, "model is corrupted or incomplete") {
			t.Errorf("reason %q", now.Reason)
		}
		for range 3 {
			r := in.chat("local/only", `,"max_tokens":3`)
			if r.status != 503 || r.header.Get("x-should-retry") != "false" {
				t.Errorf("%+v", r)
			}
			traffic.call("a", 10, true)
		}
		traffic.call("b", 10, true)
		if n, _ := m.countStarts("a"); n != starts {
			t.Errorf("%d starts, want %d", n, starts)
		}
	}
	traffic.call("a", 10, false)
	failed(2)
	if code, out := in.run("load", "a"); code != 1 || !strings.Contains(out, "a is not loaded") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	failed(4)
	if code, out := in.reload(); code != 0 || out != "server a: had failed; a call loads it\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
	traffic.call("a", 10, false) // a call of before may have loaded it already
	if !eventually(testTimeout, func() bool { n, _ := m.countStarts("a"); return n == 6 }) {
		t.Error("it is not tried again")
	}
	failed(6)
	write(good)
	if !eventually(testTimeout, func() bool { return in.chat("local/a", `,"max_tokens":1`).backend() == "a" }) {
		t.Error("it is not loaded")
	}
	traffic.end()
	in.checkNothingLeft()
}

// TestOutOfMemoryTwice: a model that needs more than it was assumed to is loaded again with
// room for more, and not again for a minute if that was too little too, unless an operator
// asks for it.
func TestOutOfMemoryTwice(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	cloud := newCountingCloud(t)
	m.setSizes(map[string]int{"a": 14, "b": 40})
	in := m.launch(newTestConfig(t, m.config(cloud, "timeout: 5m", map[string]int{"a": 11, "b": 11})).path, cloudEnv)
	traffic := newSwapTraffic(t, in, cloud)
	if code, out := in.run("load", "a"); code != 0 {
		t.Errorf("exit %d:\n%s", code, out)
	}
	m.set(func() { m.foreign = nil })
	code, out := in.run("load", "b")
	if code != 1 || !strings.Contains(out, "cudaMalloc failed: out of memory") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if starts, refused := m.countStarts("b"); starts != 2 || refused != 2 {
		t.Errorf("%d starts, %d without memory", starts, refused)
	}
	for range 5 {
		traffic.call("b", 10, true)
	}
	traffic.await("b", "openrouter", 5)
	if starts, _ := m.countStarts("b"); starts != 2 {
		t.Errorf("%d starts", starts)
	}
	if now := in.model("b"); !strings.Contains(now.Reason, "out of memory") {
		t.Errorf("%+v", now)
	}
	m.setSizes(map[string]int{"b": 11})
	if code, out := in.run("load", "b"); code != 0 {
		t.Errorf("exit %d:\n%s", code, out)
	}
	traffic.call("b", 10, true)
	traffic.await("b", "b", 1)
	traffic.end()
	in.checkNothingLeft()
}

// TestKilledInASwap: after kill -9 of llmsup while a model drains, or while the next one
// loads, nothing runs on, what was measured is known to the next llmsup, and it serves.
func TestKilledInASwap(t *testing.T) {
	for name, state := range map[string]string{"while a model leaves": "unloading", "while the next one loads": "loading"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newVRAMMachine(t)
			m.setSizes(map[string]int{"a": 13, "b": 14})
			cloud := newCountingCloud(t)
			config := newTestConfig(t, m.config(cloud, "timeout: 5m", map[string]int{"a": 11, "b": 14})).path
			in := m.launch(config, cloudEnv)
			if code, out := in.run("load", "a"); code != 0 {
				t.Fatal(out)
			}
			in.awaitModel("a", "measured", func(m control.Model) bool { return m.VRAMMeasuredBytes != nil && *m.VRAMMeasuredBytes == 13*gib })
			before := in.inState("a", "ready")
			m.set(func() { m.paused["b"] = true })
			if state == "unloading" { // for as long as a has a call
				if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				go func() { _, _ = in.countingCallTo("local/a", "cut", 10, true) }()
				in.awaitStatus("busy", func(s control.Status) bool { return s.Servers[0].Busy == 1 })
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = in.client.Load(ctx, "b", func(control.Step) error { return nil }) }()
			in.awaitStatus(state, func(s control.Status) bool { return s.Servers[0].State == state || s.Servers[1].State == state })
			pids := in.startedProcesses()
			if len(pids) == 0 {
				t.Error("no process runs")
			}
			if err := in.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			awaitExit(t, pids...)
			<-in.done
			m.set(func() { m.paused["b"] = false })
			again := m.launchIn(in.state, config, cloudEnv)
			now := again.awaitModel("a", "known", func(m control.Model) bool { return m.VRAMMeasuredBytes != nil })
			if *now.VRAMMeasuredBytes != 13*gib || now.State != "unloaded" || now.LoadSeconds == nil {
				t.Errorf("%+v", now)
			}
			traffic := newSwapTraffic(t, again, cloud)
			traffic.call("a", 10, true)
			traffic.call("b", 10, true)
			again.awaitStatus("one is loaded", func(s control.Status) bool { return isReady(s.Servers[0]) || isReady(s.Servers[1]) })
			traffic.end()
			again.checkNothingLeft()
		})
	}
}

// TestReloadInASwap: reloads change, remove and add models while one of them leaves for
// another one. No call fails.
func TestReloadInASwap(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	m.setSizes(map[string]int{"a": 13, "b": 14, "c": 15, "d": 5})
	cloud := newCountingCloud(t)
	settings := map[string]int{"a": 13, "b": 14}
	file := newTestConfig(t, m.config(cloud, "timeout: 5m", settings))
	in := m.launch(file.path, cloudEnv)
	traffic := newSwapTraffic(t, in, cloud)
	ctx, stop := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	calling.Go(func() { traffic.alternate(ctx, 10, "a") })
	reload := func(text, want string) {
		t.Helper()
		file.write(text)
		if code, out := in.reload(); code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, out)
		}
	}
	if code, out := in.run("load", "a"); code != 0 {
		t.Fatal(out)
	}
	// b loads, and is removed.
	m.set(func() { m.paused["b"] = true })
	load := func(name string) {
		go func() { _ = in.client.Load(ctx, name, func(control.Step) error { return nil }) }()
	}
	load("b")
	removed := in.inState("b", "loading")
	reload(m.config(cloud, "timeout: 5m", map[string]int{"a": 13, "c": 15, "d": 5}), "server b: removed")
	in.awaitStatus("without b", func(s control.Status) bool { return len(s.Servers) == 3 })
	if isRunning(removed.PID) {
		t.Error("the process of the removed server runs")
	}
	// c loads; its need changes, and it becomes pinned.
	m.set(func() { m.paused["b"], m.paused["c"] = false, true })
	load("c")
	in.inState("c", "loading")
	changed := m.config(cloud, "timeout: 5m", map[string]int{"a": 13, "c": 16, "d": 5})
	changed = strings.Replace(changed, "vram: 16GiB", "vram: 16GiB, pinned: true, idle_unload: 1h", 1)
	reload(changed, "server c: changed when it is loaded")
	m.set(func() { m.paused["c"] = false })
	before := in.inState("c", "ready")
	var now control.Model
	if !eventually(testTimeout, func() bool { // the Owner has seen the reload
		now = in.model("c")
		return now.Pinned && *now.VRAMNeedBytes == 16*gib
	}) {
		t.Errorf("%+v, needs %d", now, *now.VRAMNeedBytes)
	}
	// It is always loaded, and on demand again; d is added back in the same moment.
	reload(strings.Replace(changed, "load: on_demand, vram: 16GiB, pinned: true, idle_unload: 1h", "vram: 16GiB", 1), "server c: changed when it is loaded")
	if code, out := in.run("unload", "c"); code != 1 || !strings.Contains(out, "is always loaded") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	reload(m.config(cloud, "timeout: 5m", map[string]int{"a": 13, "b": 14, "c": 15}), "server b: added; a call loads it")
	in.awaitStatus("c as it was, or unloaded for a", func(s control.Status) bool {
		i := slices.IndexFunc(s.Servers, func(server control.Server) bool { return server.Name == "c" })
		if s.Servers[i].PID != 0 && s.Servers[i].PID != before.PID {
			t.Error("a reload has replaced the process")
		}
		return slices.Contains([]string{"ready", "unloading", "unloaded"}, s.Servers[i].State)
	})
	if code, out := in.run("load", "b"); code != 0 { // c leaves for it, if it is still there
		t.Errorf("exit %d:\n%s", code, out)
	}
	in.inState("c", "unloaded")
	stop()
	calling.Wait()
	traffic.end()
	in.checkNothingLeft()
	for _, name := range []string{"a", "b", "c"} {
		if _, refused := m.countStarts(name); refused > 0 {
			t.Errorf("%s ran out of memory %d times", name, refused)
		}
	}
}

// TestGPULostInASwap: the GPU is lost, or the driver hangs, while a model leaves for another
// one. The fallback answers, and no model is started without a GPU; both models are served
// again when it is back.
func TestGPULostInASwap(t *testing.T) {
	for name, tc := range map[string]struct {
		bad, good func(*nvmltest.Box)
		bySignal  bool
	}{
		"lost": {
			func(b *nvmltest.Box) { b.GPUs[0].Lost = true },
			func(b *nvmltest.Box) { b.GPUs[0].Lost = false }, true,
		},
		"the driver hangs": {
			func(b *nvmltest.Box) { b.Hang = nvmltest.All },
			func(b *nvmltest.Box) { b.Hang = "" }, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newVRAMMachine(t)
			sizes := map[string]int{"a": 13, "b": 14, "c": 15}
			m.setSizes(sizes)
			cloud := newCountingCloud(t)
			in := m.launch(newTestConfig(t, m.config(cloud, "timeout: 5m", sizes)).path, cloudEnv)
			traffic := newSwapTraffic(t, in, cloud)
			if code, out := in.run("load", "a"); code != 0 {
				t.Fatal(out)
			}
			ctx, stop := context.WithCancel(t.Context())
			var calling sync.WaitGroup
			calling.Go(func() { traffic.alternate(ctx, 10, "a", "b", "c") })
			m.set(func() { m.paused["b"] = true })
			go func() { _ = in.client.Load(ctx, "b", func(control.Step) error { return nil }) }()
			in.inState("b", "loading")
			m.change(tc.bad)
			m.set(func() { m.paused["b"] = false })
			in.awaitStatus("without the GPU", func(s control.Status) bool { return s.GPUs[0].Health == "lost" || s.GPUs[0].Health == "unknown" })
			from := traffic.count("", "")
			if !eventually(testTimeout, func() bool { return traffic.count("", "") > from+30 }) {
				t.Error("calls are not answered")
			}
			s, err := in.client.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			starting := 0
			for _, server := range s.Servers {
				if server.PID != 0 {
					starting++
				}
			}
			if starting > 1 {
				t.Errorf("%d models are on a GPU for one: %+v", starting, s.Servers)
			}
			m.change(tc.good)
			in.awaitStatus("with the GPU", func(s control.Status) bool { return s.GPUs[0].Health == "ok" })
			for _, model := range []string{"a", "b"} {
				if code, out := in.run("load", model); code != 0 {
					t.Errorf("%s: exit %d: %s", model, code, out)
				}
			}
			stop()
			calling.Wait()
			traffic.end()
			in.checkNothingLeft()
			for name := range sizes {
				if _, refused := m.countStarts(name); refused > 0 {
					t.Errorf("%s ran out of memory %d times", name, refused)
				}
			}
		})
	}
}

// TestVRAMIsFreeLater: the driver releases the VRAM of a process some seconds after its end.
// The next model is started then, and not before.
func TestVRAMIsFreeLater(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	sizes := map[string]int{"a": 13, "b": 14, "c": 5}
	m.setSizes(sizes)
	m.linger = 4 * time.Second
	in := m.launch(newTestConfig(t, m.config(nil, "timeout: 5m", sizes)).path)
	traffic := newSwapTraffic(t, in, nil)
	if code, out := in.run("load", "a"); code != 0 {
		t.Fatal(out)
	}
	traffic.call("b", 10, true)
	in.inState("a", "unloaded")
	traffic.call("c", 10, true) // it fits beside what is not free yet
	traffic.await("c", "c", 1)
	traffic.await("b", "b", 1)
	traffic.end()
	for _, name := range []string{"a", "b", "c"} {
		if starts, refused := m.countStarts(name); starts != 1 || refused != 0 {
			t.Errorf("%s: %d starts, %d of them without memory", name, starts, refused)
		}
	}
	if m.early > 0 {
		t.Errorf("%d processes were started while the VRAM that they need was not free", m.early)
	}
	if strings.Contains(in.logged(), "is not waited for any longer") {
		t.Error("the VRAM was not waited for")
	}
	in.checkNothingLeft()
}
