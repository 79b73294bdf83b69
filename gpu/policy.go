package gpu

import "time"

// Policy is when a reading is held against a server. Its zero value is not
// useful; DefaultPolicy is.
type Policy struct {
	BadSamples  int           // in a row, until a reason holds
	GoodSamples int           // in a row, until it holds no longer
	VRAMFloor   uint64        // bytes of free VRAM below which others' growth is pressure
	BusyPercent int           // utilisation that is full, without any call of ours
	BusyFor     time.Duration // for so long
}

// DefaultPolicy returns what holds without a configuration.
func DefaultPolicy() Policy {
	return Policy{BadSamples: 3, GoodSamples: 10, VRAMFloor: 256 << 20, BusyPercent: 95, BusyFor: 10 * time.Second}
}

// Reason says in one word what is wrong with a server's GPU, or with what the
// server has of it.
type Reason string

// The reasons.
const (
	VRAMPressure   Reason = "vram_pressure"   // others have taken what was left
	BusyElsewhere  Reason = "busy_elsewhere"  // others keep it busy
	Thermal        Reason = "thermal"         // it has slowed down to protect itself
	ECC            Reason = "ecc"             // its memory failed
	Xid            Reason = "xid"             // the driver reported an error that is not the program's
	Lost           Reason = "lost"            // the driver can't reach it any more
	OnCPU          Reason = "on_cpu"          // the model is not in VRAM, though it should be
	ContextReduced Reason = "context_reduced" // the context is smaller than asked for
)

// immediate reasons hold from the first sample on: they are reports, and not
// figures that may waver.
func (r Reason) immediate() bool { return r == Xid }

// applicationXids are reports of errors that a program made itself, and that
// leave the GPU as it is.
//
// Source: NVIDIA's k8s-device-plugin (internal/rm/health.go), and "XID Errors"
// of NVIDIA's documentation.
var applicationXids = map[uint64]bool{
	13:  true, // graphics engine exception
	31:  true, // memory page fault
	43:  true, // stopped processing
	45:  true, // preemptive cleanup
	68:  true, // video processor exception
	109: true, // context switch timeout
}

// survivableXids are reports of what the driver has dealt with itself, or that
// end only the program that it met: a server that goes on may go on.
//
// Source: "XID Errors" of NVIDIA's documentation.
var survivableXids = map[uint64]bool{
	63:  true, // rows of memory are to be replaced
	92:  true, // many errors that could be corrected
	94:  true, // a memory error that was contained
	121: true, // an error of the link to the CPU that was corrected
}

// Server is what is known of a server at the time of a sample.
type Server struct {
	PID              int      // of its process; 0 = none runs
	PIDs             []int    // that and what runs below a wrapper
	SiblingPIDs      []int    // the processes of our other servers on these GPUs
	SiblingsBusy     bool     // one of those has calls, or is loading
	GPUs             []string // UUIDs of those that it runs on
	Loaded           bool     // it answers
	Calls            int      // that it has
	DeviceOpen       bool     // its process has a GPU's device open
	Weights          uint64   // bytes of the model that have to be in VRAM; 0 = none, or nobody knows
	RequestedContext int      // tokens of context asked for, for all slots together
	ActualContext    int      // tokens that it has; 0 = unknown
}

// Condition is a reason that holds.
type Condition struct {
	Reason  Reason
	UUID    string // of the GPU; "" = it is the server's own
	Message string // a line that a person can act on, with the figures
}
