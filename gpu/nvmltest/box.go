package nvmltest

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// NotAvailable is the memory of a process if the driver does not know it, as in a
// container.
const NotAvailable = ^uint64(0)

// All is the name of all functions.
const All = "*"

// Box is a machine as NVML shows it. A function has its name in nvml.h; a name without a
// version, such as "nvmlDeviceGetMemoryInfo", means all versions.
type Box struct {
	Driver  string // version, such as "570.86.15"
	CUDA    string // version, such as "12.8"
	GPUs    []GPU  // at most 16; the index identifies a GPU, so a removed one is Missing
	Init    string // the error of nvmlInit, such as "DRIVER_NOT_LOADED"; "" = success
	Hang    string // a function that does not return while this is set, or All
	CallLog string // a file to which each called function's name is appended
}

// GPU is one device and its values.
type GPU struct {
	UUID, Name string

	Total, Used, Reserved uint64 // bytes; Used is without Reserved, as in nvmlMemory_v2_t

	Utilization, MemoryUtilization        int // percent
	Temperature                           int // degrees Celsius
	PowerMilliwatts, PowerLimitMilliwatts int

	Throttle       uint64 // bits of nvmlClocksEventReason...
	ECCUncorrected uint64
	PCIeReplay     int
	Processes      []Process
	Xids           []Xid

	Lost        bool     // every query, and getting the handle, returns GPU_IS_LOST
	Missing     bool     // not enumerated
	MIG         bool     // partitioned into instances; it has no utilization then
	Unsupported []string // functions that return NOT_SUPPORTED, or All
}

// Process is a process that uses a GPU.
type Process struct {
	PID      int
	Used     uint64 // bytes, or NotAvailable
	Graphics bool   // else compute
}

// Xid is an error that the driver reports as an event.
type Xid struct {
	Seq  uint64 // from 1, increasing within a GPU
	Code uint64
}

// OneGPU returns a box with a healthy, idle card of 24 GB.
func OneGPU() Box {
	return Box{Driver: "570.86.15", CUDA: "12.8", GPUs: []GPU{{
		UUID: "GPU-5b1e1f6e-0000-4000-8000-000000000001", Name: "NVIDIA GeForce RTX 4090",
		Total: 24564 << 20, Used: 18 << 20, Reserved: 410 << 20,
		Temperature: 41, PowerMilliwatts: 22_500, PowerLimitMilliwatts: 450_000,
	}}}
}

// Write replaces the file at path atomically: a reader gets the old values or the new
// ones.
func (b Box) Write(path string) error {
	text, err := b.text()
	if err != nil {
		return fmt.Errorf("write figures %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, []byte(text), 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("write figures %s: %w", path, err)
	}
	return nil
}

// Limits of the library (lib/figures.h).
const (
	maxGPUs  = 16
	maxItems = 64
)

// text returns the file's content, in the format of lib/figures.h. Values that the library
// would reject or ignore are an error.
func (b Box) text() (string, error) {
	var w writer
	w.line("driver", b.Driver)
	w.line("cuda", b.CUDA)
	w.line("init", b.Init)
	w.function("hang", b.Hang)
	w.line("calllog", b.CallLog)
	w.max(maxGPUs, len(b.GPUs), "GPUs")
	for i, g := range b.GPUs {
		g.text(&w, fmt.Sprintf("gpu %d ", i))
	}
	return w.out.String(), errors.Join(w.errs...)
}

func (g GPU) text(w *writer, gpu string) {
	if g.UUID == "" {
		w.fail("%shas no UUID", gpu)
	}
	if g.Used > g.Total || g.Reserved > g.Total-g.Used {
		w.fail("%suses more than its memory", gpu)
	}
	w.line(gpu+"uuid", g.UUID)
	w.line(gpu+"name", g.Name)
	for _, f := range []struct {
		key   string
		value any
	}{
		{"total", g.Total},
		{"used", g.Used},
		{"reserved", g.Reserved},
		{"utilization", g.Utilization},
		{"memory_utilization", g.MemoryUtilization},
		{"temperature", g.Temperature},
		{"power", g.PowerMilliwatts},
		{"power_limit", g.PowerLimitMilliwatts},
		{"throttle", g.Throttle},
		{"ecc", g.ECCUncorrected},
		{"replays", g.PCIeReplay},
		{"lost", bit(g.Lost)},
		{"missing", bit(g.Missing)},
		{"mig", bit(g.MIG)},
	} {
		if n, signed := f.value.(int); signed && n < 0 {
			w.fail("%s%s is %d: use Unsupported for a value that the driver does not report", gpu, f.key, n)
		}
		w.line(gpu+f.key, fmt.Sprint(f.value))
	}
	w.max(maxItems, len(g.Processes), gpu+"processes")
	for _, p := range g.Processes {
		kind := "compute"
		if p.Graphics {
			kind = "graphics"
		}
		w.line(gpu+"process", fmt.Sprintf("%d %d %s", p.PID, p.Used, kind))
	}
	w.max(maxItems, len(g.Xids), gpu+"Xids")
	if !slices.IsSortedFunc(g.Xids, func(x, y Xid) int { return int(x.Seq) - int(y.Seq) }) || len(g.Xids) > 0 && g.Xids[0].Seq == 0 {
		w.fail("%shas Xids that are not numbered from 1 on", gpu)
	}
	for _, x := range g.Xids {
		w.line(gpu+"xid", fmt.Sprintf("%d %d", x.Seq, x.Code))
	}
	w.max(maxItems, len(g.Unsupported), gpu+"unsupported functions")
	for _, function := range g.Unsupported {
		w.function(gpu+"unsupported", function)
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// writer collects lines and errors.
type writer struct {
	out  strings.Builder
	errs []error
}

func (w *writer) fail(format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf(format, args...))
}

func (w *writer) max(limit, n int, what string) {
	if n > limit {
		w.fail("%d %s, at most %d", n, what, limit)
	}
}

func (w *writer) line(key, value string) {
	switch {
	case strings.ContainsAny(value, "\n\x00"):
		w.fail("%s %q is more than a line", key, value)
	case value != "":
		fmt.Fprintf(&w.out, "%s %s\n", key, value)
	}
}

// function writes a function's name. A misspelt name is an error, since it would never
// hang or fail.
func (w *writer) function(key, name string) {
	if name != "" && name != All && !functions()[name] {
		w.fail("%s %s: the library has no such function", key, name)
	}
	w.line(key, name)
}

var declaration = regexp.MustCompile(`\b(nvml[A-Z]\w*)\(`)

// functions returns the names that the library's header declares, with and without their
// version, except nvmlErrorString, which does not call the driver.
func functions() map[string]bool {
	header, err := sources.ReadFile("lib/abi.h")
	if err != nil {
		panic(err) // it is embedded
	}
	names := map[string]bool{}
	for _, match := range declaration.FindAllStringSubmatch(string(header), -1) {
		names[match[1]] = true
		bare, _, _ := strings.Cut(match[1], "_v")
		names[bare] = true
	}
	delete(names, "nvmlErrorString")
	return names
}
