package ondemand

import (
	"maps"
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/scheduler"
)

// Figures are what is known about a server's model.
type Figures struct {
	OnDemand bool
	GPUs     []string // UUIDs of those that its process is on
	Need     uint64   // VRAM that it is planned with, on all its GPUs, in bytes; 0 = unknown or none
	Measured uint64   // the most VRAM that it held so far there, in bytes; 0 = not measured
	whole    bool     // Measured is all that it needs
	// Choices is where it can be: on each of several GPUs alone, and split over all of them, or
	// only where the configuration puts it. nil = unknown, or it needs no GPU.
	Choices  []Choice
	LoadTime time.Duration // measured, smoothed; 0 = not measured
	LastUsed time.Time     // when its last call arrived or ended
	Used     bool          // it has had calls
	Calls    int64         // so far
	Loads    int           // that calls and operators have caused
	Unloads  map[Cause]int // by cause
	// Reclaiming says that it is unloaded, and the driver has not released its VRAM yet.
	Reclaiming bool
	expected   time.Duration   // what a load is expected to take
	loadsIn    time.Duration   // Unloaded: see LoadsIn
	Wait       *scheduler.Wait // why it is not loaded, though calls wait for it; nil = it does not wait
}

// Choice is one of the places where a model can be.
type Choice []ChoiceGPU

// ChoiceGPU is a GPU of a Choice.
type ChoiceGPU struct {
	UUID string
	Need uint64 // VRAM that the model is planned with on this GPU, in bytes; 0 = unknown
}

// choicesOf returns where the model can be, wherever it is now.
func (m *model) choicesOf() (all []Choice) {
	for _, p := range m.placements {
		var one Choice
		for _, share := range p.Shares {
			one = append(one, ChoiceGPU{share.UUID, m.need(p, share)})
		}
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

// Need returns what a model needs whose need is configured, in bytes: what has been measured, once
// that is all that it needs, and until then the configured need if that is more.
func (o *Owner) Need(name string, configured uint64) uint64 {
	f := o.Figures(name)
	if f.whole {
		return f.Measured
	}
	return max(configured, f.Measured)
}

// readyAfterArrival returns when a model whose file is not there is expected to be loaded; zero =
// unknown.
func (m *model) readyAfterArrival() time.Time {
	if m.until.IsZero() {
		return time.Time{}
	}
	return m.until.Add(m.expectedLoad())
}

// publish publishes the figures of all servers.
func (o *Owner) publish(plan scheduler.Plan) {
	all := map[string]Figures{}
	for name, m := range o.models {
		f := Figures{
			OnDemand: m.OnDemand, LoadTime: m.loadTime, LastUsed: m.lastUsed, Used: m.calls.Total > 0, Calls: m.calls.Total,
			expected: m.expectedLoad(), loadsIn: m.loadsIn, Reclaiming: m.reclaiming || m.unloading, Loads: m.loads, Unloads: maps.Clone(m.evicts), Choices: m.choicesOf(),
		}
		on := m.planned()
		f.whole = len(on.Shares) > 0 && !m.tooLittle
		for _, share := range on.Shares {
			f.Need += m.need(on, share)
			f.Measured += m.bytes[key(on, share)]
			f.whole = f.whole && m.whole[key(on, share)]
			if m.now.PID != 0 {
				f.GPUs = append(f.GPUs, share.UUID)
			}
		}
		if i := slices.IndexFunc(plan.Wait, func(w scheduler.Wait) bool { return w.Model == name }); i >= 0 {
			f.Wait = &plan.Wait[i]
		} else if m.isAbsent() {
			f.Wait = &scheduler.Wait{Model: name, Reason: m.absent, Ready: m.readyAfterArrival()}
		}
		all[name] = f
	}
	o.figures.Store(&all)
}
