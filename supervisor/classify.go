package supervisor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Class is what kind of end a llama-server process came to. It decides whether
// waiting can help, and tells an operator where to look.
type Class string

// The classes of an end.
const (
	MissingBinary      Class = "missing_binary"      // the program, or a library of it, is not there
	BadFlag            Class = "bad_flag"            // a flag that this build does not know, or a value that it refuses
	ModelMissing       Class = "model_missing"       // the model's file is not there, or can't be read
	ModelCorrupt       Class = "model_corrupt"       // it is there, and is not a whole model that this build knows
	OutOfVRAM          Class = "out_of_vram"         // the GPU has no room for it
	OutOfRAM           Class = "out_of_ram"          // the machine has none, or the kernel killed it for memory
	PortTaken          Class = "port_taken"          // somebody else listens where it should
	IllegalInstruction Class = "illegal_instruction" // built for another CPU
	DriverError        Class = "driver_error"        // CUDA, ROCm, Vulkan or the driver below failed
	Stalled            Class = "stalled"             // ended by llmsup: it loaded nothing for too long
	Hung               Class = "wedged"              // ended by llmsup: it answered nobody for too long
	GPUFailed          Class = "gpu_failed"          // ended by llmsup: the GPU is gone, or told of an error that it does not survive
	Replaced           Class = "replaced"            // ended by llmsup: an operator asked for a new process
	Killed             Class = "signal"              // by somebody else's signal, or by its own crash
	Clean              Class = "clean"               // it exited with 0 though nobody had asked
	Unknown            Class = "unknown"             // an exit status that no line of its log explains
)

// Classes are all of them, in that order.
var Classes = []Class{
	MissingBinary, BadFlag, ModelMissing, ModelCorrupt, OutOfVRAM, OutOfRAM, PortTaken, IllegalInstruction, DriverError,
	Stalled, Hung, GPUFailed, Replaced, Killed, Clean, Unknown,
}

// lasting says whether the next start has to end the same way unless somebody
// changes something.
func (c Class) lasting() bool {
	switch c {
	case MissingBinary, BadFlag, ModelMissing, ModelCorrupt, IllegalInstruction:
		return true
	default:
		return false
	}
}

// evidence is a line of llama-server's log that explains its end. The order
// matters: a cause comes before what follows from it, and every failed load
// says "failed to load model" in the end.
//
// Source: the messages of llama.cpp build 11669 (common/arg.cpp, src/llama*.cpp,
// ggml/src), most of them provoked.
var evidence = []struct {
	class Class
	line  *regexp.Regexp
}{
	{BadFlag, regexp.MustCompile(`^error: (?:invalid|unknown) argument|^error while handling argument|^error while handling environment variable`)},
	{MissingBinary, regexp.MustCompile(`error while loading shared libraries|symbol lookup error`)},
	{PortTaken, regexp.MustCompile(`couldn't bind|[Aa]ddress already in use`)},
	{OutOfVRAM, regexp.MustCompile(`CUDA error: out of memory|cudaMalloc failed|hipMalloc failed|ErrorOutOfDeviceMemory|(?:unable|failed) to allocate (?:CUDA|ROCm|Vulkan|SYCL|Metal)\w* buffer|not enough (?:free )?(?:device|GPU|VRAM) memory`)},
	{DriverError, regexp.MustCompile(`CUDA error|ROCm error|ggml_cuda_init: failed|CUDA driver version|no CUDA-capable device|vk::\w*Error|ErrorDeviceLost|cublas\w* error|libcuda`)},
	{OutOfRAM, regexp.MustCompile(`insufficient memory|Cannot allocate memory|std::bad_alloc|failed to allocate CPU buffer|Resource temporarily unavailable`)},
	{ModelMissing, regexp.MustCompile(`failed to open GGUF file|failed to open file|No such file or directory`)},
	{ModelCorrupt, regexp.MustCompile(`invalid magic|model is corrupted or incomplete|unknown model architecture|missing tensor|wrong number of tensors|unsupported (?:version|GGUF)|gguf_init_from\w*: |error loading model`)},
}

// engineLine matches lines that the engine itself prints when it dies, outside
// llama-server's log.
var engineLine = regexp.MustCompile(`^(?:CUDA|ROCm|HIP|SYCL) error|^ggml_|^/\S+/ggml\S*:\d+: |^terminate called|^\s+what\(\): +std::bad_alloc`)

// killedBelow is the exit status of a shell whose child was ended by SIGKILL.
const killedBelow = 137

// lastLines is how near to its end a process that has served has to have said
// why it ends.
const lastLines = 20

// classify finds out why a process ended: by signal, by what it said, and by
// whether the kernel has killed for memory meanwhile (oomKilled). A process that
// has served may have printed what callers sent. Of its lines only the engine's
// own in its last words count, and only when it ended itself; none is repeated,
// and none can make it fail for good.
func classify(e Exit, oomKilled, served bool) (class Class, because string) {
	switch {
	case e.Class != "": // llmsup ended it, and knows why
		return e.Class, e.Cause
	case (e.Signal == "SIGKILL" || e.Code == killedBelow) && oomKilled:
		return OutOfRAM, "the kernel killed it because memory ran out"
	case e.Signal == "SIGILL":
		return IllegalInstruction, "this build of llama-server is for another CPU"
	}
	if served {
		return classifyServed(e), ""
	}
	for _, known := range evidence {
		for _, line := range e.Tail {
			if known.line.MatchString(line) {
				return known.class, plainWords(line)
			}
		}
	}
	switch {
	case e.Signal != "":
		return Killed, ""
	case e.Code == 0:
		return Clean, ""
	}
	return Unknown, plainWords(lastWords(e.Tail))
}

func classifyServed(e Exit) Class {
	if e.Signal == "SIGABRT" || e.Signal == "" && e.Code != 0 {
		last := slices.DeleteFunc(slices.Clone(e.Tail[max(0, len(e.Tail)-lastLines):]), func(line string) bool { return !engineLine.MatchString(line) })
		for _, known := range evidence {
			if slices.ContainsFunc(last, known.line.MatchString) && !known.class.lasting() {
				return known.class
			}
		}
	}
	switch {
	case e.Signal != "":
		return Killed
	case e.Code == 0:
		return Clean
	}
	return Unknown
}

// logPrefix is what llama-server's log puts before its words.
var logPrefix = regexp.MustCompile(`^[\d.]+ [A-Z] `)

func plainWords(line string) string {
	return strings.TrimSpace(logPrefix.ReplaceAllString(line, ""))
}

// told puts an end into one sentence: how, of what kind, and its own words.
func told(e Exit, class Class, because string) string {
	how := fmt.Sprintf("exit status %d", e.Code)
	switch {
	case e.Signal != "":
		how = "ended by " + e.Signal
	case e.Code < 0:
		how = "it could not be started"
	}
	if because != "" {
		how += ": " + because
	}
	if hint := hints[class]; hint != "" {
		how += " (" + hint + ")"
	}
	return how
}

// hints say what an operator can do about a class.
var hints = map[Class]string{
	BadFlag:            "mend the flags after --, or `args`",
	ModelMissing:       "check the path of the model and who may read it",
	ModelCorrupt:       "download the model again, or update llama-server",
	OutOfVRAM:          "free VRAM, or lower --ctx-size or --n-gpu-layers",
	OutOfRAM:           "free memory, or lower --ctx-size",
	MissingBinary:      "install llama.cpp again, or pass --llama-server",
	IllegalInstruction: "install one built for this machine",
}
