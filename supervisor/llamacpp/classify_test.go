package llamacpp

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/supervisor"
)

// TestClassify has the lines of llama-server's builds. Exits that can be provoked here
// are in TestRealExitClasses.
func TestClassify(t *testing.T) {
	for name, tc := range map[string]struct {
		exit supervisor.Exit
		want supervisor.Class
		says string
	}{
		"unknown flag":     {supervisor.Exit{Code: 1, Tail: []string{"error: invalid argument: --no-such-flag"}}, supervisor.BadFlag, "--no-such-flag"},
		"bad value":        {supervisor.Exit{Code: 1, Tail: []string{`error while handling argument "--ctx-size": stoi`, "", "usage:", "-c, --ctx-size N"}}, supervisor.BadFlag, `"--ctx-size": stoi`},
		"no library":       {supervisor.Exit{Code: 127, Tail: []string{"llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No such file or directory"}}, supervisor.MissingBinary, "libcudart.so.12"},
		"no model":         {supervisor.Exit{Code: 1, Tail: []string{"0.00.098.563 E gguf_init_from_file: failed to open GGUF file '/nope.gguf' (No such file or directory)", "0.00.107.287 E srv  llama_server: exiting due to model loading error"}}, supervisor.ModelMissing, "/nope.gguf"},
		"bad magic":        {supervisor.Exit{Code: 1, Tail: []string{"0.00.015.083 E gguf_init_from_reader: invalid magic characters: ':@?T', expected 'GGUF'", "0.00.015.302 E srv    load_model: failed to load model, 'bad.gguf'"}}, supervisor.ModelCorrupt, "invalid magic"},
		"truncated":        {supervisor.Exit{Code: 1, Tail: []string{"0.00.029.000 E llama_model_load: error loading model: tensor 'blk.0.ffn_up.weight' data is not within the file bounds, model is corrupted or incomplete"}}, supervisor.ModelCorrupt, "corrupted or incomplete"},
		"new architecture": {supervisor.Exit{Code: 1, Tail: []string{"llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'qwen9'"}}, supervisor.ModelCorrupt, "qwen9"},
		"VRAM": {supervisor.Exit{Code: 1, Tail: []string{
			"ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8148.38 MiB on device 0: cudaMalloc failed: out of memory",
			"llama_model_load: error loading model: unable to allocate CUDA0 buffer",
			"srv    load_model: failed to load model, '/srv/m.gguf'",
		}}, supervisor.OutOfVRAM, "8148.38 MiB on device 0"},
		"VRAM later":  {supervisor.Exit{Code: -1, Signal: "SIGABRT", Tail: []string{"ggml_cuda_compute_forward: MUL_MAT failed", "CUDA error: out of memory", "  current device: 0, in function alloc"}}, supervisor.OutOfVRAM, "CUDA error"},
		"Vulkan":      {supervisor.Exit{Code: 1, Tail: []string{"ggml_vulkan: Device memory allocation of size 1073741824 failed.", "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"}}, supervisor.OutOfVRAM, "ErrorOutOfDeviceMemory"},
		"CUDA":        {supervisor.Exit{Code: -1, Signal: "SIGABRT", Tail: []string{"CUDA error: an illegal memory access was encountered"}}, supervisor.DriverError, "illegal memory access"},
		"driver":      {supervisor.Exit{Code: 1, Tail: []string{"ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"}}, supervisor.DriverError, "insufficient"},
		"RAM":         {supervisor.Exit{Code: 1, Tail: []string{"0.00.572.786 E llama_model_load: error loading model: mmap failed: Cannot allocate memory"}}, supervisor.OutOfRAM, "mmap failed"},
		"KV cache":    {supervisor.Exit{Code: 1, Tail: []string{"0.00.105.041 E ggml_backend_buft_alloc_buffer_n_default: failed to allocate CPU buffer of size 1610612736"}}, supervisor.OutOfRAM, "1610612736"},
		"port":        {supervisor.Exit{Code: 1, Tail: []string{"0.00.1 E srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080"}}, supervisor.PortTaken, "couldn't bind"},
		"unexplained": {supervisor.Exit{Code: 3, Tail: []string{"0.1 E srv: something new", "cleaning up"}}, "", "something new"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Engine{}.Classify(tc.exit)
			if d.Class != tc.want {
				t.Errorf("class %s, want %s", d.Class, tc.want)
			}
			if !strings.Contains(d.Cause, tc.says) || strings.Contains(d.Cause, "\n") {
				t.Errorf("cause %q, want one line with %q", d.Cause, tc.says)
			}
			if d.Advice != advice[d.Class] {
				t.Errorf("advice %q", d.Advice)
			}
		})
	}
}

// TestCallersDecideNothing: once a server takes calls, their content can neither decide
// the class of its exit nor get into a message or the log.
func TestCallersDecideNothing(t *testing.T) {
	const prompt = "MY SECRET: unknown model architecture; CUDA error: out of memory; error: invalid argument"
	quoting := []string{
		`0.00.1 W srv    operator(): got exception: {"error":{"message":"Failed to parse messages: ` + prompt + `"}}`,
		`0.00.2 E srv  parse: ` + prompt,
		"error: " + prompt,
	}
	for name, tc := range map[string]struct {
		exit supervisor.Exit
		want supervisor.Class
	}{
		"killed":                    {supervisor.Exit{Code: -1, Signal: "SIGKILL", Tail: quoting}, ""},
		"exited":                    {supervisor.Exit{Code: 1, Tail: quoting}, ""},
		"ggml's own line":           {supervisor.Exit{Code: -1, Signal: "SIGABRT", Tail: []string{"CUDA error: out of memory", quoting[0]}}, supervisor.OutOfVRAM},
		"killed after such a line":  {supervisor.Exit{Code: -1, Signal: "SIGKILL", Tail: []string{"CUDA error: out of memory"}}, ""},
		"it exits with 0 after one": {supervisor.Exit{Code: 0, Tail: []string{"CUDA error: out of memory"}}, ""},
	} {
		tc.exit.Served = true
		if d := (Engine{}).Classify(tc.exit); d.Class != tc.want || d.Cause != "" {
			t.Errorf("%s: class %q, cause %q; want %q and no cause", name, d.Class, d.Cause, tc.want)
		}
	}
	for line, want := range map[string]string{
		quoting[0]:                   "0.00.1 W srv    operator(): [...]",
		quoting[1]:                   "0.00.2 E srv  parse: [...]",
		quoting[2]:                   "",
		"a second line of MY SECRET": "",
	} {
		if got, _, ok := (Engine{}).LogLine(line, true); got != want || ok != (want != "") {
			t.Errorf("the log gets %q of %q, want %q", got, line, want)
		}
	}
}
