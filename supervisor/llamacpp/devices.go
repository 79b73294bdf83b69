package llamacpp

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llmsup/llmsup/supervisor/process"
)

// Hardware is what one build of llama-server can compute on, on this machine.
type Hardware struct {
	// Backends are those that it loads as libraries, as in "Vulkan" and "CPU (zen4)", by name. Empty: they are
	// part of the program, which then does not name them.
	Backends []string
	Devices  []Device // besides the CPU
}

// Device is a GPU or an accelerator, as llama-server sees it. Its UUID and address are
// unknown: llama-server does not print them.
type Device struct {
	Name        string // of --device: "CUDA0", "Vulkan1"
	Description string // "NVIDIA GeForce RTX 4090"
	Memory      uint64 // bytes
}

// Accelerates reports whether one of the backends computes on something else than the CPU.
func (h Hardware) Accelerates() bool {
	return slices.ContainsFunc(h.Backends, func(name string) bool { return !isCPU(name) })
}

// deviceTries is how often llama-server is asked. It logs in another thread than the one that ends it, so
// that on a busy machine the lines about its backends can be missing.
const deviceTries = 3

// ReadHardware runs llama-server for its devices and backends. The program does not see
// the environment variables named as secrets. A build from before 2025 cannot tell, which
// is an error.
func ReadHardware(ctx context.Context, binary string, secrets []string) (Hardware, error) {
	var h Hardware
	for range deviceTries {
		out, err := process.Output(ctx, binary, []string{"--verbose", "--list-devices"}, environ(secrets))
		if err != nil {
			return Hardware{}, err
		}
		if !strings.Contains(out, "Available devices:") {
			return Hardware{}, errors.New("it prints no devices with --list-devices")
		}
		if h = parseHardware(out); slices.ContainsFunc(h.Backends, isCPU) {
			break
		}
	}
	return h, nil
}

func isCPU(backend string) bool { return strings.HasPrefix(backend, "CPU") }

var (
	// backendLine is that of ggml_backend_load_best: "load_backend: loaded CPU backend from /usr/lib/libggml-cpu-zen4.so".
	backendLine = regexp.MustCompile(`load_backend: loaded (\S+) backend from (.+)$`)
	// cpuVariant matches the file of a CPU backend that was built for some kind of CPUs.
	cpuVariant = regexp.MustCompile(`^libggml-cpu-(.+)\.so$`)
	// deviceLine is that of --list-devices: "  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23700 MiB free)".
	deviceLine = regexp.MustCompile(`^ +([A-Za-z]\S*): (.+) \((\d+) MiB, \d+ MiB free\)$`)
)

// parseHardware reads the output of --list-devices. Source: common/arg.cpp and
// ggml-backend-reg.cpp of build 11669.
func parseHardware(out string) Hardware {
	var h Hardware
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if m := backendLine.FindStringSubmatch(line); m != nil {
			name := m[1]
			if v := cpuVariant.FindStringSubmatch(filepath.Base(m[2])); v != nil {
				name += " (" + v[1] + ")"
			}
			h.Backends = append(h.Backends, name)
		} else if m := deviceLine.FindStringSubmatch(line); m != nil {
			mebibytes, _ := strconv.ParseUint(m[3], 10, 43) // at most 0 for digits that are too many
			h.Devices = append(h.Devices, Device{Name: m[1], Description: m[2], Memory: mebibytes << 20})
		}
	}
	slices.SortFunc(h.Backends, func(a, b string) int { return -cmp.Compare(a, b) }) // the CPU last: it is the last resort
	return h
}
