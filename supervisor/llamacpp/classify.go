package llamacpp

import (
	"regexp"
	"slices"

	"github.com/llmsup/llmsup/supervisor"
)

// evidence lists the lines of llama-server's output that explain an exit. The order
// matters: a cause comes before what follows from it, and every failed load ends with
// "failed to load model".
//
// Source: the messages of llama.cpp build 11669 (common/arg.cpp, src/llama*.cpp,
// ggml/src), most of them provoked.
var evidence = []struct {
	class supervisor.Class
	line  *regexp.Regexp
}{
	{supervisor.BadFlag, regexp.MustCompile(`^error: (?:invalid|unknown) argument|^error while handling argument|^error while handling environment variable`)},
	{supervisor.MissingBinary, regexp.MustCompile(`error while loading shared libraries|symbol lookup error`)},
	{supervisor.PortTaken, regexp.MustCompile(`couldn't bind|[Aa]ddress already in use`)},
	{supervisor.OutOfVRAM, regexp.MustCompile(`CUDA error: out of memory|cudaMalloc failed|hipMalloc failed|ErrorOutOfDeviceMemory|(?:unable|failed) to allocate (?:CUDA|ROCm|Vulkan|SYCL|Metal)\w* buffer|not enough (?:free )?(?:device|GPU|VRAM) memory`)},
	{supervisor.DriverError, regexp.MustCompile(`CUDA error|ROCm error|ggml_cuda_init: failed|CUDA driver version|no CUDA-capable device|vk::\w*Error|ErrorDeviceLost|cublas\w* error|libcuda`)},
	{supervisor.OutOfRAM, regexp.MustCompile(`insufficient memory|Cannot allocate memory|std::bad_alloc|failed to allocate CPU buffer|Resource temporarily unavailable`)},
	{supervisor.ModelMissing, regexp.MustCompile(`failed to open GGUF file|failed to open file|No such file or directory`)},
	{supervisor.ModelCorrupt, regexp.MustCompile(`invalid magic|model is corrupted or incomplete|unknown model architecture|missing tensor|wrong number of tensors|unsupported (?:version|GGUF)|gguf_init_from\w*: |error loading model`)},
}

// abortLine matches lines that ggml itself prints when it aborts, outside of
// llama-server's log. Callers cannot make it print them.
var abortLine = regexp.MustCompile(`^(?:CUDA|ROCm|HIP|SYCL) error|^ggml_|^/\S+/ggml\S*:\d+: |^terminate called|^\s+what\(\): +std::bad_alloc`)

// abortLines is how near to its end a process that has served prints why it aborts.
const abortLines = 20

// advice is what an operator can do about a class.
var advice = map[supervisor.Class]string{
	supervisor.BadFlag:            "correct the flags after --, or `args`",
	supervisor.ModelMissing:       "check the path of the model and who may read it",
	supervisor.ModelCorrupt:       "download the model again, or update llama-server",
	supervisor.OutOfVRAM:          "free VRAM, or lower --ctx-size or --n-gpu-layers",
	supervisor.OutOfRAM:           "free memory, or lower --ctx-size",
	supervisor.MissingBinary:      "install llama.cpp again, or pass --llama-server",
	supervisor.IllegalInstruction: "install a llama-server that was built for this machine",
}

// Classify implements supervisor.Engine.
func (Engine) Classify(exit supervisor.Exit) supervisor.Diagnosis {
	d := supervisor.Diagnosis{Class: exit.Class}
	switch {
	case exit.Class != "":
	case exit.Served:
		d.Class = classifyServed(exit)
	default:
		d.Class, d.Cause = classifyOutput(exit.Tail)
	}
	d.Advice = advice[d.Class]
	return d
}

// classifyOutput finds the line that explains an exit. If none does, it returns no
// class and the last line about an error.
func classifyOutput(lines []string) (class supervisor.Class, cause string) {
	for _, known := range evidence {
		for _, line := range lines {
			if known.line.MatchString(line) {
				return known.class, messageOf(line)
			}
		}
	}
	return "", messageOf(lastError(lines))
}

// classifyServed finds the class of a process that has served. It may have printed
// what callers sent, so only lines of ggml's near its end count, and only if
// it ended itself.
func classifyServed(exit supervisor.Exit) supervisor.Class {
	if exit.Signal != "SIGABRT" && (exit.Signal != "" || exit.Code == 0) {
		return ""
	}
	last := exit.Tail[max(0, len(exit.Tail)-abortLines):]
	last = slices.DeleteFunc(slices.Clone(last), func(line string) bool { return !abortLine.MatchString(line) })
	for _, known := range evidence {
		if slices.ContainsFunc(last, known.line.MatchString) && !known.class.Permanent() {
			return known.class
		}
	}
	return ""
}
