package ondemand

import (
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

// Server is a server of the configuration.
type Server struct {
	Name string
	Settings
	Process Process
	VRAM    VRAM
	Calls   func() Calls
	Demand  *Demand
	// Absent returns why the model's file is not there yet, "" = it is, and when it is expected;
	// zero = unknown. Until then the model is not loaded, and no other one is unloaded for it.
	Absent func() (reason string, until time.Time)
}

// Settings are what the configuration says about a server's model.
type Settings struct {
	OnDemand   bool
	IdleUnload time.Duration // without a call until it is unloaded; 0 = never
	Pinned     bool          // once loaded, it is not unloaded for another model

	Fallback bool // all its routes have another backend, to which calls go while it is not loaded
}

// Process is what the Owner needs of a *supervisor.Server.
type Process interface {
	Snapshot() *supervisor.Snapshot
	// Processes returns the PIDs of the server; none where no process runs.
	Processes() (pids []int, gpuOpen func() bool)
	Load()
	Unload(supervisor.DrainOptions)
	// Rebuild returns how long it would take to process the prompts again that its caches hold.
	Rebuild() time.Duration
}

// VRAM is what the Owner needs of a *placement.Workload.
type VRAM interface {
	// Estimate reads the model's file, which may take long.
	Estimate()
	// Signature identifies what was estimated; "" = nothing yet.
	Signature() string
	// Placements returns where the model, whose processes are pids, is and can be, in a sample.
	Placements(s *gpu.Sample, pids []int) (all []placement.Placement, known bool)
	// Place puts the next process on one of the GPUs of several Placements; "" = on all.
	Place(uuid string)
	// UnreclaimedVRAM describes what the driver has not released yet of the last process;
	// "" = nothing.
	UnreclaimedVRAM() string
}

// Calls are the calls of a server, as the router counts them.
type Calls struct {
	InFlight     int
	Bound        int           // those of them that no other backend can continue
	Total        int64         // so far
	ForModel     int           // that wait for the model to be loaded
	Since        time.Time     // when the first of them arrived
	Service      time.Duration // how long a call takes on average; 0 = not measured
	PaidInstead  int64         // calls that a paid backend answered because the model was not loaded, so far
	ChargedForIt float64       // what they cost, in USD
}

// Demand is what calls need and operators have asked of a server, and the Owner has not done yet. Its
// methods do not wait, and may be called from any goroutine.
type Demand struct {
	wake func()

	mu        sync.Mutex
	rate      scheduler.Rate // of the calls that went elsewhere
	elsewhere time.Time      // when the last call that needed the model went elsewhere; zero = none did
	byHand    time.Time      // when an operator asked for a load that is not done; zero = none did
	unloads   *unloadRequest // nil = none
	pinned    *bool          // what an operator has set instead of Settings.Pinned; nil = nothing else
}

type unloadRequest struct{ now bool }

// Add counts a call that needs the model, which is not loaded. waits is whether the call waits
// for it instead of going elsewhere.
func (d *Demand) Add(waits bool) {
	if !waits { // a call that waits is counted when it begins
		now := time.Now()
		d.mu.Lock()
		d.elsewhere = now
		d.rate.Add(now, 1)
		d.mu.Unlock()
	}
	d.wake()
}

// Load makes the Owner load the model for an operator, before all calls that wait for others.
func (d *Demand) Load() {
	d.mu.Lock()
	d.byHand, d.unloads = time.Now(), nil
	d.mu.Unlock()
	d.wake()
}

// Unload makes the Owner unload the model for an operator. With now, its calls get no time to
// end.
func (d *Demand) Unload(now bool) {
	d.mu.Lock()
	d.byHand, d.unloads = time.Time{}, &unloadRequest{now}
	d.mu.Unlock()
	d.wake()
}

// Pin sets whether the model stays once it is loaded, until llmsup restarts or a reload
// changes Settings.Pinned.
func (d *Demand) Pin(pinned bool) {
	d.mu.Lock()
	d.pinned = &pinned
	d.mu.Unlock()
	d.wake()
}

// forgetPin ends what Pin has set.
func (d *Demand) forgetPin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pinned = nil
}

// Pinned returns whether the model stays once it is loaded. configured is what Settings say.
func (d *Demand) Pinned(configured bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pinned != nil {
		return *d.pinned
	}
	return configured
}

// demanded is a Demand at one moment.
type demanded struct {
	rate      float64 // calls per second
	elsewhere time.Time
	byHand    time.Time
	unloads   *unloadRequest
}

// take returns the demand after some more calls that the server has accepted. An unload is
// returned once.
func (d *Demand) take(now time.Time, calls int64) demanded {
	d.mu.Lock()
	defer d.mu.Unlock()
	if calls > 0 {
		d.rate.Add(now, int(calls))
	}
	all := demanded{d.rate.At(now), d.elsewhere, d.byHand, d.unloads}
	d.unloads = nil
	return all
}

// loadDone ends an operator's request to load the model.
func (d *Demand) loadDone() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.byHand = time.Time{}
}

// Pending reports whether an operator's request to load the model is not done.
func (d *Demand) Pending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.byHand.IsZero()
}
