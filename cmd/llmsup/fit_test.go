package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/gpu/nvmltest"
	"github.com/llmsup/llmsup/models/hub/hubtest"
	"github.com/llmsup/llmsup/models/vram"
)

// TestFitRemote: llmsup fit reads the headers of a repository, and no more.
func TestFitRemote(t *testing.T) {
	weights := append(demoContent(t), make([]byte, 4<<20)...) // llama.cpp allows more than the tensors need
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: weights}, {Path: "m-Q4_K_M.gguf", Content: weights, Xet: true}}},
		hubtest.Repo{Name: "a/gated", Gated: true, Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: weights}}})
	for _, entry := range h.Environment() {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	code, out := runCommand(t, "fit", "hf:a/b", "--vram", "24GiB")
	for _, want := range []string{"hf:a/b: llmsup demo", "QUANTISATION  SIZE   NEEDS    GPU 0  CONTEXT\n", "Q4_K_M        6 MiB  270 MiB  fits   8192\n", "llmsup pull takes Q8_0: it is the largest that fits"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, out)
		}
	}
	if served := h.Served(); served == 0 || served > 512<<10 {
		t.Errorf("the hub sent %d bytes of two files of %d", served, len(weights))
	}
	if code, out := runCommand(t, "fit", "hf:a/b:Q6_K"); code != 1 || !strings.Contains(out, "a/b has no quantisation Q6_K; it has Q") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, out := runCommand(t, "fit", "hf:a/gated"); code != 1 || !strings.Contains(out, "a/gated is gated: accept its licence at") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestFitPage: the page's form has the answer of the command.
func TestFitPage(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: demoContent(t)}}})
	in := launch(t, h.Environment(), "--model", demoModel(t))
	var f control.Fit
	r := in.request("POST", "/ui/api/fit", `{"ref":"hf:a/b","ctx_size":4096}`, "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin")
	if err := json.Unmarshal([]byte(r.body), &f); r.status != 200 || err != nil || len(f.Variants) != 1 || f.CtxSize != 4096 || f.Variants[0].NeedBytes == nil {
		t.Errorf("%d %s", r.status, r.body)
	}
	r = in.request("POST", "/ui/api/fit", `{"ref":"hf:a/c"}`, "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin")
	if r.status != 409 || !strings.Contains(r.body, "a/c does not exist") {
		t.Errorf("a missing repository: %d %s", r.status, r.body)
	}
}

// TestPullChooses: without a quantisation llmsup pull takes the largest that fits, and without a GPU
// the usual one.
func TestPullChooses(t *testing.T) {
	model := demoContent(t)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{
		{Path: "m-Q8_0.gguf", Content: model}, {Path: "m-Q4_K_M.gguf", Content: model}, {Path: "m-F16.gguf", Content: model},
	}})
	b := newGPUMachine(t, nvmltest.Modern)
	alone := "LLMSUP_CONTROL_SOCKET=" + t.TempDir() + "/none"
	for name, tc := range map[string]struct {
		env  []string
		want string
		why  string
	}{
		"a GPU":  {b.env(alone), "m-Q8_0.gguf", "Q8_0: it is the largest that fits"},
		"no GPU": {[]string{alone}, "m-Q4_K_M.gguf", "Q4_K_M: it is the usual one, and there is no GPU to fit"},
	} {
		got := pull(t, h, t.TempDir(), tc.env, "hf:a/b")
		if got.code != 0 || !strings.HasSuffix(strings.TrimSpace(got.out), tc.want) || !strings.Contains(got.stderr, tc.why) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestServerSettingsChoose: llmsup pull, llmsup fit and the daemon choose the quantisation of a server with
// its settings, and the model goes to the state directory of the file.
func TestServerSettingsChoose(t *testing.T) {
	t.Parallel()
	model := demoContent(t)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: model}, {Path: "m-Q4_K_M.gguf", Content: model}}})
	b := newGPUMachine(t, nvmltest.Modern)
	const noGPU = "Q4_K_M: it is the usual one, and there is no GPU to fit: the GPU is disabled"
	for name, tc := range map[string]struct {
		settings, want string
		context        int
	}{
		"its context":          {"{model: hf:a/b, ctx_size: 16384}", "Q8_0: it is the largest that fits, with a context of 16384 tokens", 16384},
		"its args":             {`{model: hf:a/b, args: ["--device", "none"]}`, "Q8_0: it is the largest that fits, with a context of 8192 tokens", 8192},
		"its GPU":              {"{model: hf:a/b, gpu: none}", noGPU, 8192},
		"that of all servers":  {"{model: hf:a/c}\n  two: {model: hf:a/b}\ngpu: {devices: none}", noGPU, 8192},
		"none of its settings": {"{model: hf:a/b:Q8_0, gpu: none}", "Q8_0: it is the largest that fits, with a context of 8192 tokens", 8192},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			file := newTestConfig(t, fmt.Sprintf("state_dir: %q\nservers:\n  one: %s\n", state, tc.settings))
			cmd, result := pullCmd(t, h, "", "hf:a/b", "--config", file.path)
			cmd.Env = slices.DeleteFunc(cmd.Env, func(entry string) bool { return strings.HasPrefix(entry, "LLMSUP_STATE_DIR=") })
			cmd.Env = append(cmd.Env, b.env("LLMSUP_CONTROL_SOCKET="+state+"/none")...)
			_ = cmd.Run() // its code is checked
			got := result()
			quant, _, _ := strings.Cut(tc.want, ":")
			if got.code != 0 || got.out != state+"/models/a/b/m-"+quant+".gguf\n" || !strings.Contains(strings.Join(strings.Fields(got.stderr), " "), tc.want) {
				t.Errorf("%+v", got)
			}
			fit := exec.CommandContext(t.Context(), "llmsup", "fit", "hf:a/b", "--config", file.path, "--json")
			fit.Env = cmd.Env
			var f control.Fit
			out, err := fit.Output()
			if err != nil || json.Unmarshal(out, &f) != nil || !strings.HasPrefix(f.Choice+": "+f.ChoiceReason, tc.want) || f.CtxSize != tc.context {
				t.Fatalf("%v: %s", err, out)
			}
			if noDevice := name == "its args"; noDevice != (*f.Variants[0].NeedBytes == 0) {
				t.Errorf("%s", out)
			}
		})
	}
	file := newTestConfig(t, "servers: {one: {model: hf:a/b, gpu: none, load: on_demand}}\n")
	in := launch(t, append(h.Environment(), b.env()...), "--config", file.path)
	in.awaitLog("chose " + noGPU)
}

// TestSameNeed: llmsup check, fit, models and status, the planner and the page have the same need of a
// server, and the same doubt about it.
func TestSameNeed(t *testing.T) {
	model := demoContent(t)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: model}}})
	b := newGPUMachine(t, nvmltest.Modern)
	for _, entry := range append(h.Environment(), b.env()...) {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	for _, tc := range []struct {
		settings, variable string
		gpus, split        int // split: over how many of them
	}{
		{`ctx_size: 4096, args: ["-np", "2", "-ub", "256"]`, "", 1, 1},
		{"n_gpu_layers: 1, load: on_demand", "", 1, 1},
		{"ctx_size: 4096", "", 2, 2},
		{"load: on_demand", "", 2, 1},
		{"args: [--split-mode, none]", "", 2, 1},
		{"load: on_demand", "LLAMA_ARG_UBATCH", 1, 1},
	} {
		b.change(func(box *nvmltest.Box) {
			box.GPUs = box.GPUs[:1]
			for i := 1; i < tc.gpus; i++ {
				another := box.GPUs[0]
				another.UUID += "b"
				box.GPUs = append(box.GPUs, another)
			}
		})
		if tc.variable != "" {
			t.Setenv(tc.variable, "1024")
		}
		file := newTestConfig(t, "servers: {box: {model: hf:a/b, "+tc.settings+"}}\n")
		in := launch(t, nil, "--config", file.path)
		status := in.await("with a need", func(s control.Server) bool { return s.VRAM != nil && s.Download == nil }).VRAM
		doubt := ""
		if tc.variable != "" {
			doubt = tc.variable + " is set"
		}
		if status.Uncertain != doubt {
			t.Errorf("%s: status has the doubt %q", tc.settings, status.Uncertain)
		}
		parts := vram.Need{Weights: status.WeightsBytes, KV: status.KVBytes, Compute: status.ComputeBytes}
		onOne := parts
		onOne.Compute /= uint64(tc.split) // each has its own buffers
		var server, ref control.Fit
		for of, f := range map[string]*control.Fit{"box": &server, "hf:a/b": &ref} {
			if code, out := in.run("fit", of, "--config", file.path, "--state-dir", in.state, "--json"); code != 0 || json.Unmarshal([]byte(out), f) != nil {
				t.Errorf("fit %s: exit %d\n%s", of, code, out)
			}
		}
		var page control.Fit
		r := in.request("POST", "/ui/api/fit", `{"ref":"hf:a/b"}`, "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin")
		if err := json.Unmarshal([]byte(r.body), &page); err != nil {
			t.Errorf("the page: %s", r.body)
		}
		for where, f := range map[string]control.Fit{"fit of the server": server, "fit of its reference": ref, "the page": page} {
			if v := f.Variants[0]; *v.NeedBytes != onOne.Total() || v.Uncertain != doubt || (len(v.Places) == 0) != (doubt != "") {
				t.Errorf("%s: %s: %d bytes (%q), and status has %d", tc.settings, where, *v.NeedBytes, v.Uncertain, onOne.Total())
			}
		}
		planned, want := in.model("box"), uint64(0)
		if doubt == "" {
			want = parts.Total()
		}
		if got := planned.VRAMNeedBytes; (got != nil) != (want > 0) || got != nil && *got != want {
			t.Errorf("%s: the planner has another need than %d: %+v", tc.settings, want, planned)
		}
		need := parts.String()
		if code, out := in.run("check", "--config", file.path, "--state-dir", in.state); code != 0 || !strings.Contains(out, "server box: VRAM needed: "+need) || strings.Contains(out, "(which may be far off: "+doubt+")") == (doubt == "") {
			t.Errorf("%s: check: exit %d, without %s\n%s", tc.settings, code, need, out)
		}
		in.stop()
	}
}

// TestFitGPUs: what a model may use of a GPU is what other processes leave, and the planner's
// margin; llmsup's own models leave it.
func TestFitGPUs(t *testing.T) {
	b := newGPUMachine(t, nvmltest.Modern)
	in := b.launch(newFakeCloud(t), "")
	pid := in.awaitReady().PID
	b.change(func(box *nvmltest.Box) {
		box.GPUs[0].Processes = []nvmltest.Process{{PID: pid, Used: 6 * gib}, {PID: 1, Used: 5 * gib}}
		box.GPUs[0].Used = 11 * gib
	})
	for _, entry := range b.env() {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	in.awaitStatus("the processes of the GPU", func(s control.Status) bool {
		own := func(p control.GPUProcess) bool { return p.PID == pid && p.Server == "box" }
		return len(s.GPUs) > 0 && slices.ContainsFunc(s.GPUs[0].Processes, own)
	})
	model := demoModel(t)
	answer := func(run func(args ...string) (code int, output string), args ...string) (f control.Fit) {
		t.Helper()
		code, out := run(append([]string{"fit", model, "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &f); code != 0 || err != nil {
			t.Fatalf("exit %d: %v: %s", code, err, out)
		}
		return f
	}
	free := b.box.GPUs[0].Total - b.box.GPUs[0].Reserved - 11*gib
	const margin = 128 << 20
	alone := func(args ...string) (int, string) {
		return runCommand(t, append(args, "--control-socket", t.TempDir()+"/none")...)
	}
	for name, tc := range map[string]struct {
		run         func(args ...string) (int, string)
		usable, now uint64
	}{
		"beside the daemon": {in.run, free + 6*gib - margin, free - margin},
		"without a daemon":  {alone, free - margin, free - margin},
	} {
		f := answer(tc.run)
		if g := f.GPUs[0]; len(f.GPUs) != 2 || *g.UsableBytes != tc.usable || *g.UsableNowBytes != tc.now {
			t.Errorf("%s: %s usable, %s now, want %s and %s", name, gpu.Size(*g.UsableBytes), gpu.Size(*g.UsableNowBytes), gpu.Size(tc.usable), gpu.Size(tc.now))
		}
		if v := f.Variants[0]; v.Fits != control.FitsNow || len(v.Places) != 3 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if f := answer(alone, "--gpu", "1"); len(f.GPUs) != 1 || f.GPUs[0].Index != 1 {
		t.Errorf("%+v", f.GPUs)
	}
}
