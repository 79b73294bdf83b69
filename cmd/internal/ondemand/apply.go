package ondemand

import (
	"cmp"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

// apply carries a plan out.
func (o *Owner) apply(plan scheduler.Plan, sample *gpu.Sample, now time.Time) {
	for _, e := range plan.Evict {
		m := o.models[e.Model]
		if e.For == "" {
			o.unload(m, time.Time{}, Idle, "idle for "+inWords(m.IdleUnload)+"; "+OnCall)
		} else {
			o.unload(m, time.Time{}, ForAnother, e.For+" needs its VRAM; "+OnCall)
		}
	}
	for _, name := range plan.Keep {
		m := o.models[name]
		m.reason, m.forAnother = "", false
		o.log.Info().Str("server", name).Msg("the model stays: no other one needs its VRAM any more")
		m.Process.Load()
	}
	for _, start := range plan.Load {
		m := o.models[start.Model]
		if !m.now.UnloadRequested || m.loading {
			continue // it is starting
		}
		m.loads++
		m.loading, m.reason = true, ""
		o.log.Info().Str("server", m.Name).Int("waiting", m.calls.ForModel).Msg("loading the model")
		m.place(start.On, sample)
		m.Process.Load()
	}
	o.showReasons(plan, now)
}

// unload unloads a model. Its calls have until then to end; zero = as long as in a drain, unless
// endCalls ends them.
func (o *Owner) unload(m *model, until time.Time, cause Cause, reason string) {
	if m.evicts == nil {
		m.evicts = map[Cause]int{}
	}
	m.evicts[cause]++
	m.reason = reason
	m.unloading, m.forAnother, m.callsEnded = !m.now.UnloadRequested, cause == ForAnother, false
	o.log.Info().Str("server", m.Name).Str("cause", string(cause)).Int("calls", m.calls.InFlight).Msg("unloading the model: " + reason)
	m.Process.Unload(supervisor.DrainOptions{Until: until, Reason: reason})
}

// showReasons makes why a model waits the reason of its server, or why it is unloaded.
func (o *Owner) showReasons(plan scheduler.Plan, now time.Time) {
	waits := map[string]scheduler.Wait{}
	for _, w := range plan.Wait {
		waits[w.Model] = w
	}
	for _, m := range o.models {
		if m.now.State != supervisor.Unloaded || !m.OnDemand || m.loading {
			continue
		}
		reason := cmp.Or(m.reason, OnCall)
		switch w, waiting := waits[m.Name]; {
		case m.absent != "":
			reason = m.absent
		case waiting && w.Never:
			reason = "it cannot be loaded: " + w.Reason
			if reason == m.now.Reason { // otherwise an operator's command would not show it
				m.Demand.loadDone()
			}
		case waiting:
			reason = "it waits to be loaded: " + w.Reason
			if holders := o.holders(m); w.Held && holders != "" {
				reason += "; held by " + holders
			}
		}
		if reason != m.now.Reason {
			o.publish(plan) // first: the change of the reason makes the router read the figures
			m.Process.Unload(supervisor.DrainOptions{Until: now, Reason: reason})
		}
	}
}

// holders returns which processes hold the VRAM of the GPUs that a model needs.
func (o *Owner) holders(m *model) string {
	sample := o.opts.GPUs.Sample()
	var gpus []gpu.GPU
	for _, share := range m.planned().Shares {
		if g := sample.Find(share.UUID); g != nil {
			gpus = append(gpus, *g)
		}
	}
	return gpu.MemoryHolders(gpus, nil)
}

// inWords returns a duration without its zeros: 15m, 1h.
func inWords(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if strings.HasSuffix(text, "m"+zero) || strings.HasSuffix(text, "h"+zero) {
			text = strings.TrimSuffix(text, zero)
		}
	}
	return text
}
