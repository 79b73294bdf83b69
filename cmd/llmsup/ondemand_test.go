package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// vramOfEach is what each llama-server of these tests holds: a GPU of the test has room for
// two.
const vramOfEach = 11 * gib

// followProcesses makes the GPU's figures follow the llama-servers of an instance, until the
// returned function is called. It fails the test if there is no VRAM for one of them.
func (b *gpuMachine) followProcesses(in *instance) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			pids := llamaServersOf(in.cmd.Process.Pid)
			b.change(func(box *nvmltest.Box) {
				g := &box.GPUs[0]
				if most := int((g.Total - g.Reserved) / vramOfEach); len(pids) > most {
					b.t.Errorf("%d models on a GPU that has room for %d", len(pids), most)
					pids = pids[:most]
				}
				g.Processes, g.Used = nil, uint64(len(pids))*vramOfEach
				for _, pid := range pids {
					g.Processes = append(g.Processes, nvmltest.Process{PID: pid, Used: vramOfEach})
				}
			})
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond): // as a driver's figures change
			}
		}
	}()
	return func() { close(done); <-ended }
}

// llamaServersOf returns the processes below llmsup that load a model, but for that of the
// server "always", which uses no GPU.
func llamaServersOf(parent int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, list := range lists {
		raw, _ := os.ReadFile(list) // the thread may have ended
		for field := range strings.FieldsSeq(string(raw)) {
			line, _ := os.ReadFile("/proc/" + field + "/cmdline")
			if pid, err := strconv.Atoi(field); err == nil && strings.Contains(string(line), "--model\x00") && !strings.Contains(string(line), "\x00always\x00") {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids
}

// onDemandConfig has servers m0, m1, ... that are loaded on demand.
func onDemandConfig(model string, models int, route string) string {
	servers, routes := "servers:\n", "routes:\n"
	for i := range models {
		servers += fmt.Sprintf("  m%d: {model: %s, load: on_demand, vram: 11GiB, gpu: \"0\"}\n", i, model)
		routes += fmt.Sprintf("  local/m%d: {primary: m%d, %s}\n", i, i, route)
	}
	return servers + routes
}

// TestOnDemand: six models on a GPU that holds two. No call fails, no model is started
// without VRAM for it, and a model that is called is loaded.
func TestOnDemand(t *testing.T) {
	for name, tc := range map[string]struct {
		route  string
		cloud  bool // some calls go to the cloud
		models int
		calls  int // of each caller
	}{
		"with a fallback":    {"fallback: openrouter, fallback_model: vendor/chat, resume: true", true, 6, 60},
		"without a fallback": {"timeout: 5m", false, 4, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
			b.change(func(box *nvmltest.Box) { box.GPUs = box.GPUs[:1] })
			config := "upstreams:\n  openrouter: {base_url: \"" + c.URL + "/api/v1\", api_key_env: TEST_OPENROUTER_KEY}\n" + onDemandConfig(demoModel(t), tc.models, tc.route)
			in := launch(t, b.env(c.env()...), "--config", newTestConfig(t, config).path)
			stop := b.followProcesses(in)
			defer stop()
			for i := range tc.models {
				if now := in.awaitServer(i, "unloaded", func(s control.Server) bool { return s.State == "unloaded" }); now.Reason != "a call loads it" || now.PID != 0 {
					t.Errorf("%+v", now)
				}
			}
			if health := in.get("/health"); !strings.Contains(health, `"ok"`) {
				t.Errorf("/health: %s", health)
			}

			if list := in.get("/v1/models"); strings.Count(list, `"status":"unloaded"`) < tc.models {
				t.Errorf("GET /v1/models: %s", list)
			}
			var callers sync.WaitGroup
			for caller := range 4 {
				callers.Go(func() {
					for i := range tc.calls {
						model := fmt.Sprintf("m%d", (caller+i*i)%tc.models)
						r := in.chat("local/"+model, fmt.Sprintf(`,"max_tokens":20,"stream":%t`, i%2 == 0))
						switch {
						case r.status != 200 || r.readErr != nil || i%2 == 0 && !strings.HasSuffix(r.body, "data: [DONE]\n\n"):
							t.Errorf("%s: %+v", model, r)
						case r.backend() == "" && strings.HasPrefix(r.body, ":"): // its headers were sent before its backend was known
						case r.backend() != model && !(tc.cloud && r.backend() == "openrouter"):
							t.Errorf("%s: answered by %s", model, r.backend())
						}
					}
				})
			}
			callers.Wait()
			for _, model := range []string{"m0", "m3"} {
				if !eventually(testTimeout, func() bool { return in.chat("local/"+model, `,"max_tokens":1`).backend() == model }) {
					t.Errorf("%s is not loaded", model)
				}
			}
			if cloud := len(c.requestedModels()) > 0; cloud != tc.cloud {
				t.Errorf("calls went to the cloud: %t", cloud)
			}
			var models []control.Model
			if !eventually(testTimeout, func() bool {
				var err error
				models, err = in.client.Models(t.Context())
				return err == nil && len(models) == tc.models && models[3].VRAMMeasuredBytes != nil && *models[3].VRAMMeasuredBytes == vramOfEach
			}) || models[3].Calls == 0 || models[3].Loads == 0 || models[3].LoadSeconds == nil || models[3].SizeBytes == nil {
				t.Errorf("%+v", models)
			}
			if metrics := in.get("/metrics"); !strings.Contains(metrics, `llmsup_model_loads_total{server="m0"}`) || !strings.Contains(metrics, `llmsup_model_unloads_total{cause="for_another",server="m0"}`) {
				t.Error("/metrics has no loads")
			}
		})
	}
}

// TestOnDemandCommands: an operator loads and unloads models, and drain, resume, restart and
// reload respect that.
func TestOnDemandCommands(t *testing.T) {
	t.Parallel()
	b := newGPUMachine(t, nvmltest.Modern)
	b.change(func(box *nvmltest.Box) { box.GPUs = box.GPUs[:1] })
	model := demoModel(t)
	always := "  always: {model: " + model + ", gpu: none}\n"
	config := onDemandConfig(model, 3, "timeout: 5m")
	file := newTestConfig(t, strings.Replace(config, "routes:", always+"routes:", 1))
	in := launch(t, b.env(), "--config", file.path)
	stop := b.followProcesses(in)
	defer stop()
	state := func(i int, want string) control.Server {
		t.Helper()
		return in.awaitServer(i, want, func(s control.Server) bool { return s.State == want })
	}
	run := func(wantCode int, want string, line ...string) {
		t.Helper()
		if code, out := in.run(line...); code != wantCode || !strings.Contains(out, want) {
			t.Errorf("%q: exit %d, want %d with %q:\n%s", line, code, wantCode, want, out)
		}
	}
	state(0, "ready") // always
	run(0, "m0 is loaded, and is ready", "load", "m0")
	run(0, "m0 is loaded, and is ready", "load", "m0")
	run(0, "m1 is loaded", "load", "m1")
	run(0, "m2 is loaded", "load", "m2") // another one has to leave
	loaded := 0
	for i := 1; i <= 3; i++ {
		s, err := in.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Servers[i].State == "ready" {
			loaded++
		}
	}
	if loaded != 2 {
		t.Errorf("%d of three models are loaded, want 2", loaded)
	}
	run(0, "m2 is unloaded; a call loads it", "unload", "m2")
	run(0, "m2 is unloaded", "unload", "m2", "--now")
	run(1, `there is no server "m7"; the configuration has always, m0, m1, m2`, "load", "m7")
	run(1, "set load: on_demand for it", "unload", "always")
	run(2, "takes the name of one server", "load")
	run(0, "m2: is unloaded, and has no process to replace", "restart", "m2")
	run(0, "drained;", "drain", "--yes", "m2")
	run(1, "m2 is drained; llmsup resume m2 ends that", "load", "m2")
	run(1, "m2 is drained", "unload", "m2")
	run(0, "m2: is unloaded: by llmsup unload; a call loads it", "resume", "m2")
	state(3, "unloaded")
	if r := in.chat("local/m2", `,"max_tokens":1`); r.backend() != "m2" {
		t.Errorf("%+v", r)
	}

	// A reload: m2 is no longer on demand, and another one is added.
	file.write(strings.Replace(strings.Replace(config, "routes:", always+"  new: {model: "+model+", load: on_demand, vram: 11GiB, gpu: \"0\"}\nroutes:", 1),
		"m2: {model: "+model+", load: on_demand", "m2: {model: "+model, 1))
	before := state(3, "ready")
	run(0, "server new: added; a call loads it\nserver m2: changed when it is loaded", "reload")
	if now := state(3, "ready"); now.PID != before.PID {
		t.Error("the reload has replaced a process")
	}
	state(4, "unloaded")
	if r := in.chat("local/new", `,"max_tokens":1`); r.backend() != "new" {
		t.Errorf("%+v", r)
	}
	if now := state(3, "ready"); now.PID != before.PID {
		t.Error("a server that is always loaded was unloaded")
	}
}

// TestEvictionKeepsStreams: streams run on while their model is to leave for another one, and
// the fallback completes those that get no time to end.
func TestEvictionKeepsStreams(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newCountingCloud(t)
	b.change(func(box *nvmltest.Box) {
		box.GPUs = box.GPUs[:1]
		box.GPUs[0].Total = 13 * gib // for one model
	})
	in := launch(t, b.env("TEST_OPENROUTER_KEY="+cloudKey), "--config", newTestConfig(t, fmt.Sprintf(`
servers:
  box: {model: %s, load: on_demand, vram: 11GiB, gpu: "0"}
  slow: {model: %s, load: on_demand, vram: 11GiB, gpu: "0", ctx_size: 32768, args: [-np, "2"]}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/slow: {primary: slow, fallback: openrouter, resume: true, while_loading: wait}
`, demoModel(t), demotest.Slow(t), c.URL)).path)
	defer b.followProcesses(in)()
	if code, out := in.run("load", "slow"); code != 0 {
		t.Fatal(out)
	}
	var streams sync.WaitGroup
	begun := make(chan struct{}, 2)
	for range 2 {
		streams.Go(func() { in.longStream(600, begun) })
	}
	<-begun
	<-begun
	loaded := in.runInBackground("load", "box")
	now := in.awaitServer(1, "unloading", func(s control.Server) bool { return s.State == "unloading" })
	if !strings.HasPrefix(now.Reason, "box needs its VRAM") || now.Busy != 2 {
		t.Errorf("%+v", now)
	}
	if code, out := in.run("unload", "slow", "--now"); code != 0 {
		t.Errorf("unload: exit %d\n%s", code, out)
	}
	if out := <-loaded; !strings.HasPrefix(out, "0 ") || !strings.Contains(out, "box is loaded, and is ready") {
		t.Errorf("load: %s", out)
	}
	streams.Wait()
}
