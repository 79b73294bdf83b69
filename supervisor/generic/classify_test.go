package generic

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/supervisor"
)

// TestClassify has the last lines of engines and of containers' runtimes.
func TestClassify(t *testing.T) {
	for name, tc := range map[string]struct {
		code  int
		lines []string
		want  supervisor.Class
		says  string
	}{
		"PyTorch, VRAM":        {1, []string{"Traceback (most recent call last):", `  File "x.py", line 3, in load`, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB"}, supervisor.OutOfVRAM, "Tried to allocate"},
		"vLLM, VRAM":           {1, []string{"ERROR 11-30 00:10:00 [core.py:700] ValueError: Free memory on device (3.1/23.6 GiB) on startup is less than desired GPU memory utilization (0.9, 21.2 GiB). Decrease GPU memory utilization", "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"}, supervisor.OutOfVRAM, "Free memory on device"},
		"vLLM, no cache":       {1, []string{"ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."}, supervisor.OutOfVRAM, "cache blocks"},
		"SGLang, VRAM":         {1, []string{"RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."}, supervisor.OutOfVRAM, "--mem-fraction-static"},
		"ggml, VRAM":           {1, []string{"ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8148.38 MiB on device 0: cudaMalloc failed: out of memory"}, supervisor.OutOfVRAM, "cudaMalloc"},
		"no GPU":               {1, []string{"RuntimeError: No CUDA GPUs are available"}, supervisor.DriverError, "No CUDA GPUs"},
		"container, no GPU":    {125, []string{`docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].`}, supervisor.DriverError, "capabilities"},
		"container, CDI":       {126, []string{`Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all`}, supervisor.DriverError, "CDI"},
		"container, no image":  {125, []string{"Error: short-name resolution", "Error: vllm/vllm-openai:nope: image not known"}, supervisor.MissingBinary, "image not known"},
		"container, no access": {125, []string{"docker: Error response from daemon: pull access denied for x, repository does not exist or may require 'docker login'"}, supervisor.MissingBinary, "pull access denied"},
		"container, no daemon": {125, []string{"docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "Run 'docker run --help' for more information"}, "", "Run 'docker run --help'"},
		"container, no file":   {127, []string{`docker: Error response from daemon: exec: "whisper": executable file not found in $PATH: unknown.`}, supervisor.MissingBinary, "whisper"},
		"a shell's 127":        {127, []string{"sh: 1: whisper-server: not found"}, supervisor.MissingBinary, "not found"},
		"port":                 {1, []string{"ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use"}, supervisor.PortTaken, "8000"},
		"argparse":             {2, []string{"usage: api_server.py [-h]", "api_server.py: error: unrecognized arguments: --foo"}, supervisor.BadFlag, "--foo"},
		"whisper, flag":        {1, []string{"error: unknown argument: --foo", "", "usage: whisper-server [options]"}, supervisor.BadFlag, "--foo"},
		"no module":            {1, []string{"Traceback (most recent call last):", "ModuleNotFoundError: No module named 'vllm'"}, supervisor.MissingBinary, "vllm"},
		"no library":           {127, []string{"whisper-server: error while loading shared libraries: libggml.so: cannot open shared object file: No such file or directory"}, supervisor.MissingBinary, "libggml.so"},
		"no model":             {1, []string{"FileNotFoundError: [Errno 2] No such file or directory: '/srv/m/config.json'"}, supervisor.ModelMissing, "config.json"},
		"whisper, no model": {3, []string{
			"ggml_backend_load_best: failed to enumerate /usr/lib/x86_64-linux-gnu/ggml/backends0: No such file or directory",
			"whisper_init_from_file_with_params_no_state: failed to open '/srv/nope.bin'", "error: failed to initialize whisper context",
		}, supervisor.ModelMissing, "/srv/nope.bin"},
		"a file that is optional": {3, []string{"ggml_backend_load_best: failed to enumerate /x: No such file or directory", "error: something new"}, "", "something new"},
		"no repository":           {1, []string{"OSError: org/none is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'"}, supervisor.ModelMissing, "org/none"},
		"RAM":                     {1, []string{"RuntimeError: [enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"}, supervisor.OutOfRAM, "DefaultCPUAllocator"},
		"a cause long ago":        {1, append([]string{"warning: optional.json: No such file or directory"}, make([]string, explaining)...), "", ""},
		"unexplained":             {3, []string{"RuntimeError: something new", "cleaning up"}, "", "something new"},
		"in the background":       {0, []string{"started, pid 77"}, supervisor.Clean, ""},
		"silent":                  {1, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := Engine{}.Classify(supervisor.Exit{Code: tc.code, Tail: tc.lines})
			if d.Class != tc.want || !strings.Contains(d.Cause, tc.says) || d.Advice != advice[d.Class] {
				t.Errorf("%+v, want class %s and %q", d, tc.want, tc.says)
			}
			served := Engine{}.Classify(supervisor.Exit{Code: tc.code, Tail: tc.lines, Served: true})
			if served.Class != "" || served.Cause != "" {
				t.Errorf("after it has served, callers decide %+v", served)
			}
		})
	}
}

// TestLogLine: before it serves, the log gets what the engine prints, but for the requests of
// llmsup's own probes; then nothing.
func TestLogLine(t *testing.T) {
	e := Engine{Health: "/health?full=1"}
	for line, want := range map[string]string{
		"Loading weights took 3.1 s":                                                "debug",
		"WARNING 11-30 [config.py:9] the error message of a warning":                "warn",
		"ERROR 11-30 [core.py:9] no luck":                                           "error",
		"ValueError: no luck":                                                       "error",
		"loading errors.json":                                                       "debug",
		`INFO:     127.0.0.1:39800 - "GET /health HTTP/1.1" 503 Unavailable`:        "",
		`[GIN] 2026/11/30 - 00:00:00 | 200 | 21µs | 127.0.0.1 | GET      "/health"`: "",
		`INFO:     127.0.0.1:39800 - "GET /healthy HTTP/1.1" 404 Not Found`:         "debug",
		`INFO:     127.0.0.1:39800 - "POST /health HTTP/1.1" 405`:                   "debug",
	} {
		text, level, ok := e.LogLine(line, false)
		got := level.String()
		if !ok {
			got = ""
		}
		if got != want || ok && text != line {
			t.Errorf("%s: %q at %q, want %q", line, text, got, want)
		}
		if _, _, ok := e.LogLine(line, true); ok {
			t.Errorf("%s: the log gets it from an engine that serves", line)
		}
	}
}
