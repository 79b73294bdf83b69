package scheduler

import (
	"slices"
	"time"
)

// LoadsIn returns after what time a model that is not loaded would answer, if a call came for it
// now. ok is false if the model would have to wait for an unknown time, or for models that have
// calls: other boxes should not send calls here then.
func LoadsIn(s State, model string) (d time.Duration, ok bool) {
	s.Models = slices.Clone(s.Models)
	i := slices.IndexFunc(s.Models, func(m Model) bool { return m.Name == model })
	if i < 0 || s.Models[i].Phase != Unloaded || s.Now.Before(s.Models[i].LoadFrom) {
		return 0, false
	}
	for k := range s.Models {
		if m := &s.Models[k]; m.Phase == Loaded && m.InFlight+m.Waiting > 0 {
			m.Pinned, m.Waiting = true, 0
		}
	}
	m := &s.Models[i]
	if m.Waiting == 0 {
		m.Waiting, m.Oldest = 1, s.Now
	}
	plan := Decide(s)
	if slices.ContainsFunc(plan.Load, func(start Start) bool { return start.Model == model }) {
		return m.LoadTime, true
	}
	for _, w := range plan.Wait {
		if w.Model == model && !w.Ready.IsZero() {
			return w.Ready.Sub(s.Now), true
		}
	}
	return 0, false
}
