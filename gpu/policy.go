package gpu

import "time"

// Policy has the thresholds of the conditions. The zero value is not usable; start from
// DefaultPolicy.
type Policy struct {
	BadSamples  int           // in a row, before a reason holds
	GoodSamples int           // in a row, before it no longer holds
	VRAMFloor   uint64        // bytes of free VRAM below which the growth of other processes is pressure
	BusyPercent int           // utilisation that counts as busy, while the server has no calls
	BusyFor     time.Duration // for at least this time
}

// DefaultPolicy returns the policy that applies without a configuration.
func DefaultPolicy() Policy {
	return Policy{BadSamples: 3, GoodSamples: 10, VRAMFloor: 256 << 20, BusyPercent: 95, BusyFor: 10 * time.Second}
}

// Reason names what is wrong with a server's GPU or with the server's share of it.
type Reason string

// The reasons.
const (
	VRAMPressure   Reason = "vram_pressure"   // other processes have taken the free VRAM
	BusyElsewhere  Reason = "busy_elsewhere"  // other processes keep it busy
	Thermal        Reason = "thermal"         // it runs slower to protect itself
	ECC            Reason = "ecc"             // its memory had uncorrectable errors
	Xid            Reason = "xid"             // the driver reported an error that is not the application's
	Lost           Reason = "lost"            // the driver can no longer reach it
	OnCPU          Reason = "on_cpu"          // the model is not in VRAM, though it should be
	ContextReduced Reason = "context_reduced" // the context is smaller than requested
)

// immediate reasons hold from the first bad sample on: they are events, not values that
// fluctuate.
func (r Reason) immediate() bool { return r == Xid }

// applicationXids are errors of an application, which do not affect the GPU.
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

// survivableXids are errors that the driver has corrected, or that kill only the process
// that they hit. A server that still runs need not be replaced.
//
// Source: "XID Errors" of NVIDIA's documentation.
var survivableXids = map[uint64]bool{
	63:  true, // memory rows will be remapped
	92:  true, // a high rate of corrected memory errors
	94:  true, // a contained memory error
	121: true, // a corrected error of the C2C link to the CPU
}

// Server is the state of a server at the time of a sample.
type Server struct {
	PID              int      // of its process; 0 = none runs
	PIDs             []int    // the same, and its children if it is a wrapper
	SiblingPIDs      []int    // the processes of llmsup's other servers on these GPUs
	SiblingsBusy     bool     // one of them has calls, or is loading
	GPUs             []string // the UUIDs of the GPUs that it runs on
	Loaded           bool     // its model is loaded
	Calls            int      // in flight
	DeviceOpen       bool     // its process has a GPU's device file open
	Weights          uint64   // bytes of the model that must be in VRAM; 0 = none, or unknown
	RequestedContext int      // tokens, for all slots together
	ActualContext    int      // tokens; 0 = unknown
}

// Condition is a reason that holds.
type Condition struct {
	Reason  Reason
	UUID    string // of the GPU; "" = it is the server's own
	Message string // one line with the values and what the operator can do
}
