package generic

import (
	"regexp"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/supervisor"
)

// evidence lists the lines that explain why an engine did not start, or a container's
// runtime. The order matters: a cause comes before what follows from it.
//
// Source: the messages of PyTorch, vLLM, SGLang, ggml, Python's argparse, Docker and Podman.
var evidence = []struct {
	class supervisor.Class
	line  *regexp.Regexp
}{
	{supervisor.PortTaken, regexp.MustCompile(`[Aa]ddress already in use|[Cc]ouldn't bind|[Cc]ould not bind`)},
	{supervisor.OutOfVRAM, regexp.MustCompile(`(?:CUDA|HIP|XPU) out of memory|CUDA error: out of memory|cudaMalloc failed|hipMalloc failed|ErrorOutOfDeviceMemory|torch\.(?:cuda\.)?OutOfMemoryError|` +
		`(?:unable|failed) to allocate (?:CUDA|ROCm|Vulkan|SYCL|Metal)\w* buffer|not enough (?:free )?(?:device|GPU|VRAM) memory|Not enough memory\. Please try to increase --mem-fraction-static|` +
		`less than desired GPU memory utilization|No available memory for the cache blocks|larger than the available KV cache memory`)},
	{supervisor.DriverError, regexp.MustCompile(`CUDA error|ROCm error|CUDA driver version|[Nn]o CUDA-capable device|No CUDA GPUs are available|driver/library version mismatch|libcuda|` +
		`nvidia-container-cli|could not select device driver|unresolvable CDI devices|Failed to infer device type`)},
	{supervisor.OutOfRAM, regexp.MustCompile(`Cannot allocate memory|std::bad_alloc|^MemoryError|can't allocate memory|insufficient memory`)},
	{supervisor.MissingBinary, regexp.MustCompile(`error while loading shared libraries|symbol lookup error|^ModuleNotFoundError|^ImportError|executable file not found|[Nn]o such image|` +
		`pull access denied|manifest unknown|manifest for \S+ not found|image not known`)},
	{supervisor.BadFlag, regexp.MustCompile(`error: (?:unrecognized|invalid|unknown) argument|error: argument |error: the following arguments are required|[Uu]nknown (?:shorthand )?(?:flag|option|argument)|unrecognized option|` +
		`[Ii]nvalid option|No such option`)},
	{supervisor.ModelMissing, regexp.MustCompile(`^FileNotFoundError|failed to open '|[Cc](?:ould not|an't|annot) open .*No such file or directory|RepositoryNotFoundError|GatedRepoError|LocalEntryNotFoundError|is not a valid model identifier|Permission denied: '`)},
}

// explaining is how near to the end of its output a program explains why it ends, in lines.
const explaining = 40

// The exit statuses of a shell, and of a container's runtime, for a program that cannot be
// executed.
var notExecuted = []int{126, 127}

// advice is what an operator can do about a class.
var advice = map[supervisor.Class]string{
	supervisor.BadFlag:            "correct `command`",
	supervisor.ModelMissing:       "check the model's name or path in `command`, and who may read it",
	supervisor.OutOfVRAM:          "free VRAM, or make the engine take less of it",
	supervisor.OutOfRAM:           "free memory",
	supervisor.MissingBinary:      "install the program, or correct `command`",
	supervisor.Clean:              "if it continues in the background, make `command` run it in the foreground",
	supervisor.IllegalInstruction: "install a program that was built for this machine",
}

// Classify implements supervisor.Engine. Of an engine that has served, no line counts:
// which ones callers can make it print is not known.
func (Engine) Classify(exit supervisor.Exit) supervisor.Diagnosis {
	d := supervisor.Diagnosis{Class: exit.Class}
	if exit.Class == "" && !exit.Served {
		d.Class, d.Cause = classifyOutput(exit.Tail[max(0, len(exit.Tail)-explaining):])
		switch {
		case d.Class != "":
		case slices.Contains(notExecuted, exit.Code):
			d.Class = supervisor.MissingBinary
		case exit.Code == 0 && exit.Signal == "": // its last line explains nothing: it reports no error
			d.Class, d.Cause = supervisor.Clean, ""
		}
	}
	d.Advice = advice[d.Class]
	return d
}

// classifyOutput finds the line that explains an exit. If none does, it returns no class and
// the last line about an error.
func classifyOutput(lines []string) (class supervisor.Class, cause string) {
	for _, known := range evidence {
		for _, line := range slices.Backward(lines) {
			if line = strings.TrimSpace(line); known.line.MatchString(line) {
				return known.class, line
			}
		}
	}
	return "", lastError(lines)
}

// lastError returns the last line that reports an error, else the last one.
func lastError(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if errorLine.MatchString(line) {
			return strings.TrimSpace(line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
