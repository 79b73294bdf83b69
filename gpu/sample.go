package gpu

import (
	"slices"
	"time"
)

// Sample is one reading of all GPUs. It is immutable.
type Sample struct {
	At        time.Time // when the reading began: it shows what had happened by then
	Driver    string    // the driver's version, as in "550.54.14"; "" = unknown
	CUDA      string    // the newest CUDA version that the driver supports, as in "12.4"; "" = unknown
	Problem   string    // why the GPUs cannot be read; "" = they were
	Suspended bool      // reading is suspended (Monitor.Suspend)
	GPUs      []GPU     // by index; with a Problem those known from before, without values

	// Extra means that this reading was requested between the regular ones, so that it
	// does not count towards a number of samples in a row.
	Extra bool

	// Changed is closed when a newer sample was published.
	Changed <-chan struct{}
	next    *Sample
}

// Next returns the sample after this one, once Changed is closed. A caller that follows
// Next misses no sample.
func (s *Sample) Next() *Sample { return s.next }

// GPU is one GPU in a Sample. A value that the driver does not report is nil.
type GPU struct {
	Index int    // NVML's, which is nvidia-smi's
	UUID  string // "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
	Name  string
	Lost  bool // the driver could reach it before, and now cannot

	MemoryTotal  *uint64 // bytes
	MemoryUsed   *uint64 // bytes, without those that the driver reserves
	MemoryFree   *uint64 // bytes
	Inconsistent bool    // memory changed while it was read: MemoryUsed and Processes do not match

	Utilization       *int     // percent of the driver's last sampling period in which a kernel ran
	MemoryUtilization *int     // percent of that period in which memory was read or written
	Temperature       *int     // degrees Celsius
	Power             *float64 // watts
	PowerLimit        *float64 // watts
	Slowdown          *Slowdown
	ECCUncorrected    *uint64 // uncorrectable memory errors since the driver was loaded
	PCIeReplays       *uint64 // retransmitted packets

	Processes      []Process // that have it open; nil, with ProcessesKnown false, if the driver does not list them
	ProcessesKnown bool
	Xids           []uint64 // errors since the last sample
}

// Slowdown is a set of reasons why a GPU runs below its full clock rate
// (nvmlClocksEventReasons in nvml.h).
type Slowdown uint64

// The reasons that are caused by heat or by the protection of the board.
const (
	HardwareSlowdown   Slowdown = 0x08 // heat or power brake: the clock rate is halved or lower
	SoftwareThermal    Slowdown = 0x20 // the driver keeps it below its temperature limit
	HardwareThermal    Slowdown = 0x40
	HardwarePowerBrake Slowdown = 0x80 // requested by the power supply

	protecting = HardwareSlowdown | SoftwareThermal | HardwareThermal | HardwarePowerBrake
)

// HasXids reports whether this sample has Xid errors. Each error is in one sample
// only.
func (s *Sample) HasXids() bool {
	return slices.ContainsFunc(s.GPUs, func(g GPU) bool { return len(g.Xids) > 0 })
}

// blank returns a GPU without its values.
func (g GPU) blank() GPU { return GPU{Index: g.Index, UUID: g.UUID, Name: g.Name, Lost: g.Lost} }

// Find returns the GPU of a UUID; nil = it is not in the sample.
func (s *Sample) Find(uuid string) *GPU {
	i := slices.IndexFunc(s.GPUs, func(g GPU) bool { return g.UUID == uuid })
	if i < 0 {
		return nil
	}
	return &s.GPUs[i]
}
