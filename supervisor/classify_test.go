package supervisor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// TestClassify is on ends as llama-server's builds have printed them; those
// that can be provoked here are, in TestRealExitClasses.
func TestClassify(t *testing.T) {
	for name, tc := range map[string]struct {
		exit Exit
		oom  bool
		want Class
		says string
	}{
		"unknown flag":     {Exit{Code: 1, Tail: []string{"error: invalid argument: --no-such-flag"}}, false, BadFlag, "--no-such-flag"},
		"bad value":        {Exit{Code: 1, Tail: []string{`error while handling argument "--ctx-size": stoi`, "", "usage:", "-c, --ctx-size N"}}, false, BadFlag, `"--ctx-size": stoi`},
		"no library":       {Exit{Code: 127, Tail: []string{"llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No such file or directory"}}, false, MissingBinary, "libcudart.so.12"},
		"no model":         {Exit{Code: 1, Tail: []string{"0.00.098.563 E gguf_init_from_file: failed to open GGUF file '/nope.gguf' (No such file or directory)", "0.00.107.287 E srv  llama_server: exiting due to model loading error"}}, false, ModelMissing, "/nope.gguf"},
		"bad magic":        {Exit{Code: 1, Tail: []string{"0.00.015.083 E gguf_init_from_reader: invalid magic characters: ':@?T', expected 'GGUF'", "0.00.015.302 E srv    load_model: failed to load model, 'bad.gguf'"}}, false, ModelCorrupt, "invalid magic"},
		"truncated":        {Exit{Code: 1, Tail: []string{"0.00.029.000 E llama_model_load: error loading model: tensor 'blk.0.ffn_up.weight' data is not within the file bounds, model is corrupted or incomplete"}}, false, ModelCorrupt, "corrupted or incomplete"},
		"new architecture": {Exit{Code: 1, Tail: []string{"llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'qwen9'"}}, false, ModelCorrupt, "qwen9"},
		"VRAM": {Exit{Code: 1, Tail: []string{
			"ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8148.38 MiB on device 0: cudaMalloc failed: out of memory",
			"llama_model_load: error loading model: unable to allocate CUDA0 buffer",
			"srv    load_model: failed to load model, '/srv/m.gguf'",
		}}, false, OutOfVRAM, "8148.38 MiB on device 0"},
		"VRAM later":    {Exit{Code: -1, Signal: "SIGABRT", Tail: []string{"ggml_cuda_compute_forward: MUL_MAT failed", "CUDA error: out of memory", "  current device: 0, in function alloc"}}, false, OutOfVRAM, "CUDA error"},
		"Vulkan":        {Exit{Code: 1, Tail: []string{"ggml_vulkan: Device memory allocation of size 1073741824 failed.", "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"}}, false, OutOfVRAM, "ErrorOutOfDeviceMemory"},
		"CUDA":          {Exit{Code: -1, Signal: "SIGABRT", Tail: []string{"CUDA error: an illegal memory access was encountered"}}, false, DriverError, "illegal memory access"},
		"driver":        {Exit{Code: 1, Tail: []string{"ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"}}, false, DriverError, "insufficient"},
		"RAM":           {Exit{Code: 1, Tail: []string{"0.00.572.786 E llama_model_load: error loading model: mmap failed: Cannot allocate memory"}}, false, OutOfRAM, "mmap failed"},
		"KV cache":      {Exit{Code: 1, Tail: []string{"0.00.105.041 E ggml_backend_buft_alloc_buffer_n_default: failed to allocate CPU buffer of size 1610612736"}}, false, OutOfRAM, "1610612736"},
		"OOM killer":    {Exit{Code: -1, Signal: "SIGKILL"}, true, OutOfRAM, "the kernel killed it"},
		"kill -9":       {Exit{Code: -1, Signal: "SIGKILL"}, false, Killed, "ended by SIGKILL"},
		"crash":         {Exit{Code: -1, Signal: "SIGSEGV", Tail: []string{"0.1 I slot launch"}}, true, Killed, "ended by SIGSEGV"},
		"other CPU":     {Exit{Code: -1, Signal: "SIGILL"}, false, IllegalInstruction, "another CPU"},
		"port":          {Exit{Code: 1, Tail: []string{"0.00.1 E srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080"}}, false, PortTaken, "couldn't bind"},
		"clean":         {Exit{Code: 0, Tail: []string{"bye"}}, false, Clean, "exit status 0"},
		"unexplained":   {Exit{Code: 3, Tail: []string{"0.1 E srv: something new", "cleaning up"}}, false, Unknown, "something new"},
		"llmsup's own":  {Exit{Code: -1, Signal: "SIGKILL", Class: Hung, Cause: "no sign of life"}, true, Hung, "no sign of life"},
		"nothing said":  {Exit{Code: 1}, false, Unknown, "exit status 1"},
		"never started": {Exit{Code: -1, Class: MissingBinary, Cause: "start x: no such file"}, false, MissingBinary, "it could not be started: start x"},
	} {
		t.Run(name, func(t *testing.T) {
			class, because := classify(tc.exit, tc.oom, false)
			if class != tc.want {
				t.Errorf("class %s, want %s", class, tc.want)
			}
			if got := told(tc.exit, class, because); !strings.Contains(got, tc.says) || strings.Contains(got, "\n") {
				t.Errorf("it says %q, want one line with %q", got, tc.says)
			}
		})
	}
}

// TestCallersDecideNothing: once a server takes calls, what they contain can
// neither make it fail for good nor be told to anybody else.
func TestCallersDecideNothing(t *testing.T) {
	const prompt = "MY SECRET: unknown model architecture; CUDA error: out of memory; error: invalid argument"
	quoting := []string{
		`0.00.1 W srv    operator(): got exception: {"error":{"message":"Failed to parse messages: ` + prompt + `"}}`,
		`0.00.2 E srv  parse: ` + prompt,
	}
	for name, exit := range map[string]Exit{
		"killed": {Code: -1, Signal: "SIGKILL", Tail: quoting}, "exited": {Code: 1, Tail: quoting},
	} {
		class, because := classify(exit, false, true)
		if class.lasting() || class == OutOfVRAM || strings.Contains(told(exit, class, because), "SECRET") {
			t.Errorf("%s: class %s, %q", name, class, told(exit, class, because))
		}
	}
	engine := Exit{Code: -1, Signal: "SIGABRT", Tail: []string{"CUDA error: out of memory", quoting[0]}}
	if class, because := classify(engine, false, true); class != OutOfVRAM || because != "" {
		t.Errorf("the engine's own words: %s, %q", class, because)
	}
	engine.Signal = "SIGKILL" // the words may be a caller's
	if class, because := classify(engine, false, true); class != Killed || because != "" {
		t.Errorf("killed after such words: %s, %q", class, because)
	}
	served := Exit{Tail: append([]string{"a second line of MY SECRET", "error: MY SECRET"}, quoting...), served: true}
	if got := strings.Join(served.tailForLog(), ""); strings.Contains(got, "SECRET") || !strings.Contains(got, "0.00.1 W srv    operator(): [...]") {
		t.Errorf("in the log: %q", got)
	}
}

// TestClassesAreAll: a class that is not in the list is in no metric.
func TestClassesAreAll(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "classify.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Class" {
				constants += len(spec.Names)
			}
		}
		return true
	})
	if len(slices.Compact(slices.Sorted(slices.Values(Classes)))) != constants || constants == 0 {
		t.Errorf("%d constants, and in the list are %v", constants, Classes)
	}
	if len(States) != len(stateNames) {
		t.Errorf("%d states, and in the list are %v", len(stateNames), States)
	}
}
