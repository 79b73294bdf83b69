package scheduler

import "time"

// State is what Decide needs.
type State struct {
	Now    time.Time
	GPUs   []GPU
	Models []Model
}

// GPU is the VRAM of a GPU, in bytes.
type GPU struct {
	Name    string // for reasons, as in "GPU 0"
	Total   uint64
	Free    uint64 // as the driver reports it
	Unknown bool   // the driver does not report it: every model counts as fitting
	// Unread is why the driver cannot say now how much is free, although it could before;
	// "" = it can. Nothing is evicted for what cannot be seen, and a model is loaded only if
	// no other one is there.
	Unread string
	Lost   bool // nothing can be loaded until it is back; Unread is set
}

// Placement is where a model can be, or is: the VRAM that it needs on each GPU.
type Placement []Share

// Share is the VRAM that a model needs on one GPU.
type Share struct {
	GPU   int // index in State.GPUs
	Bytes uint64
}

// Phase is how far a model is loaded.
type Phase int

// The phases. A model leaves each by an action of the caller, or because its process does.
//
//	Unloaded -> Loading -> Loaded -> Unloading -> Unloaded
const (
	Unloaded  Phase = iota
	Loading         // its process has started; it holds some of its VRAM
	Loaded          // it answers calls
	Unloading       // it drains, or its process ends; its VRAM is not yet known to be free
)

func (p Phase) String() string {
	return [...]string{"unloaded", "loading", "loaded", "unloading"}[p]
}

// Model is a model that can be loaded.
type Model struct {
	Name       string
	Pinned     bool          // once loaded, it is never evicted
	IdleUnload time.Duration // it is unloaded after this time without a call; 0 = never
	Placements []Placement   // where it can be, the preferred of equally good ones first; empty = it needs no GPU

	Phase     Phase
	Since     time.Time // when the phase began
	On        Placement // where it is, unless it is unloaded: what it holds or will hold
	Unclaimed Placement // what it will hold and has not allocated yet: the driver still reports it as free

	LoadTime time.Duration // from its start to its first answer
	Overdue  time.Time     // when its load, which is under way, has taken so long that it may be evicted for another model; zero = never
	Rebuild  time.Duration // to process the prompts again that its caches hold
	LoadFrom time.Time     // it may not be loaded before this time, for example after a failed load
	Leave    time.Duration // until its VRAM is free, if it is being unloaded or is evicted now

	Waiting  int       // calls that wait for it
	Oldest   time.Time // when the first of them arrived
	InFlight int       // calls that it is answering
	Draining bool      // it is being unloaded for another model, and still answers these calls
	LastUsed time.Time // when its last call arrived or ended
	Rate     float64   // expected calls per second

	Fallback bool    // its calls go to the fallback while it is not loaded; otherwise they wait
	Price    float64 // of a call there, in USD
}

// wanted reports whether it should be loaded: calls wait for it, or go elsewhere for money.
func (m *Model) wanted() bool {
	return m.Phase == Unloaded && (m.Waiting > 0 || m.Fallback && m.Price*m.Rate > 0)
}

// Plan is what to do now. The caller carries it out and plans again when something changes.
type Plan struct {
	Load  []Start
	Evict []Eviction
	Keep  []string // models that are draining for another one and need not leave any more
	Wait  []Wait   // of the models that calls wait for and that cannot be loaded yet
	// Again is when to plan again if nothing changes before: a model will have been loaded
	// for its minimum time, or idle for long enough. Zero = only after a change.
	Again time.Time
}

// Start is a model to load.
type Start struct {
	Model string
	On    Placement
}

// Eviction is a model to unload: it accepts no further calls, finishes those that it has or
// lets them continue elsewhere, and its process ends.
type Eviction struct {
	Model string
	For   string // the model that needs its VRAM; "" = it was idle
}

// Wait is why a model cannot be loaded yet.
type Wait struct {
	Model  string
	Reason string
	Never  bool      // it cannot be loaded on these GPUs at all; also if no call waits for it
	Held   bool      // the VRAM is held by what no eviction ends: other processes, pinned models
	Ready  time.Time // when it is expected to answer; zero = unknown
}
