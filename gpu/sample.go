package gpu

import (
	"cmp"
	"slices"
	"time"
)

// Sample is what was read of all GPUs at one moment. It is immutable.
type Sample struct {
	At        time.Time
	Driver    string // its version, as in "550.54.14"; "" = unknown
	CUDA      string // the newest CUDA that the driver can do, as in "12.4"; "" = unknown
	Problem   string // why nothing can be read now, in words; "" = all is as it should be
	Suspended bool   // nothing is read since nobody is to use the driver (Monitor.Rest)
	GPUs      []GPU  // by index; with a Problem those known before it, without figures

	// Extra says that somebody asked for this reading, between those of every
	// second: it is not one more in a row.
	Extra bool

	// Changed is closed when a newer sample was published.
	Changed <-chan struct{}
	next    *Sample
}

// Next returns the sample after this one, once Changed is closed: whoever goes
// from one to the next misses none.
func (s *Sample) Next() *Sample { return s.next }

// GPU is one GPU in a Sample. A figure that the driver does not give is nil.
type GPU struct {
	Index int    // NVML's, which is nvidia-smi's
	UUID  string // "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
	Name  string
	Lost  bool // it was there, and the driver can't reach it any more

	MemoryTotal  *uint64 // bytes
	MemoryUsed   *uint64 // bytes, by whomever; what the driver keeps to itself is not in it
	MemoryFree   *uint64 // bytes
	Inconsistent bool    // memory was moving while it was read: it and Processes are of two moments

	Utilization       *int     // percent of the last moment in which it computed anything
	MemoryUtilization *int     // percent in which its memory was read or written
	Temperature       *int     // degrees Celsius
	Power             *float64 // watts
	PowerLimit        *float64 // watts
	Slowdown          *Slowdown
	ECCUncorrected    *uint64 // memory errors that could not be corrected, since the driver was loaded
	PCIeReplays       *uint64 // packets that had to be sent again

	Processes      []Process // that have it open; nil and ProcessesKnown false where the driver does not say
	ProcessesKnown bool
	Xids           []uint64 // errors that the driver reported since the last sample
}

// Process is a process that holds memory of a GPU.
type Process struct {
	PID     int     // as the driver counts them: on the host, and not in a container
	Program string  // as ps names it; "" where it can't be seen
	Memory  *uint64 // bytes
}

// Slowdown is the set of reasons why a GPU runs below its clocks (NVML's clocks
// event reasons, nvmlClocksEventReasons in nvml.h).
type Slowdown uint64

// The slowdowns that come from heat or from the board's protection.
const (
	HardwareSlowdown   Slowdown = 0x08 // heat, or power brake, at the lowest level
	SoftwareThermal    Slowdown = 0x20 // the driver keeps it below its temperature limit
	HardwareThermal    Slowdown = 0x40
	HardwarePowerBrake Slowdown = 0x80 // asked for by the power supply

	protecting = HardwareSlowdown | SoftwareThermal | HardwareThermal | HardwarePowerBrake
)

// HasReports says whether the driver has reported errors in this sample, which
// stand in no other one.
func (s *Sample) HasReports() bool {
	return slices.ContainsFunc(s.GPUs, func(g GPU) bool { return len(g.Xids) > 0 })
}

// blank returns a GPU without its figures.
func (g GPU) blank() GPU { return GPU{Index: g.Index, UUID: g.UUID, Name: g.Name, Lost: g.Lost} }

// Find returns the GPU of a UUID; nil = it is not in the sample.
func (s *Sample) Find(uuid string) *GPU {
	i := slices.IndexFunc(s.GPUs, func(g GPU) bool { return g.UUID == uuid })
	if i < 0 {
		return nil
	}
	return &s.GPUs[i]
}

// memoryOf sums up what some processes hold of a GPU. known is false when the
// driver lists one of them without its memory, or lists none at all.
func (g *GPU) memoryOf(pids []int) (held uint64, listed, known bool) {
	known = g.ProcessesKnown
	for _, p := range g.Processes {
		if !slices.Contains(pids, p.PID) {
			continue
		}
		listed = true
		if p.Memory == nil {
			known = false
			continue
		}
		held += *p.Memory
	}
	return held, listed, known
}

// merge puts several lists of processes together: one that computes and draws
// stands in two of them, each time with all that it holds.
func merge(lists ...[]Process) []Process {
	all := []Process{}
	for _, list := range lists {
		for _, p := range list {
			i := slices.IndexFunc(all, func(q Process) bool { return q.PID == p.PID })
			switch {
			case i < 0:
				all = append(all, p)
			case p.Memory != nil && (all[i].Memory == nil || *all[i].Memory < *p.Memory):
				all[i] = p
			}
		}
	}
	slices.SortFunc(all, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return all
}
