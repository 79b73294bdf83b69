package ondemand

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/supervisor"
)

// loadsIn returns the time to load the model that the box announces to the others.
func (s *simulated) loadsIn() time.Duration {
	return s.owner.Figures(s.name).LoadsIn(s.Snapshot(), time.Now())
}

// TestLoadsIn: the time to load a model is known, unless another model with calls has the VRAM that
// it needs.
func TestLoadsIn(t *testing.T) {
	inMachine(t, func(m *machine) {
		a, b := m.add("a", 20, nil), m.add("b", 20, nil)
		want := func(what string, inA, inB time.Duration) {
			t.Helper()
			time.Sleep(2 * interval)
			if gotA, gotB := a.loadsIn(), b.loadsIn(); gotA != inA || gotB != inB {
				t.Errorf("%s: %s and %s, want %s and %s", what, gotA, gotB, inA, inB)
			}
		}
		want("no load was measured", defaultLoadTime, defaultLoadTime)
		a.call()
		time.Sleep(a.load + time.Second)
		m.want(supervisor.Ready, supervisor.Unloaded)
		a.inFlight(1)
		want("a is loaded, and has a call", 0, 0)
		a.inFlight(0)
		time.Sleep(time.Hour) // it is hardly expected to be called again
		want("a is loaded, and b's call would wait until that is worth more than what a loses", 0, defaultLoadTime+time.Millisecond)
		b.call()
		time.Sleep(releaseTime + b.load + time.Minute)
		m.want(supervisor.Unloaded, supervisor.Ready)
		b.drain(true)
		want("b is drained, and a was measured", a.load, 0)
	})
}

// TestLeftOfLoad: how long a load takes yet.
func TestLeftOfLoad(t *testing.T) {
	const s = time.Second
	f := Figures{expected: 20 * s}
	for name, tc := range map[string]struct {
		figures Figures
		now     supervisor.Snapshot
		want    time.Duration
	}{
		"it begins":            {f, supervisor.Snapshot{State: supervisor.Starting}, 20 * s},
		"it waits for VRAM":    {f, supervisor.Snapshot{State: supervisor.Starting, Reason: "VRAM"}, 0},
		"it waits for a file":  {Figures{expected: s, Wait: &scheduler.Wait{}}, supervisor.Snapshot{State: supervisor.Starting}, 0},
		"a part is done":       {f, supervisor.Snapshot{State: supervisor.Loading, Since: time.Unix(85, 0)}, 5 * s},
		"nearly done":          {f, supervisor.Snapshot{State: supervisor.Loading, Since: time.Unix(80, 0)}, s},
		"longer than expected": {f, supervisor.Snapshot{State: supervisor.Loading, Since: time.Unix(50, 0)}, 30 * s},
		"it is drained":        {f, supervisor.Snapshot{State: supervisor.Loading, DrainRequested: true}, 0},
		"it is ready":          {f, supervisor.Snapshot{State: supervisor.Ready}, 0},
		"it has crashed":       {f, supervisor.Snapshot{State: supervisor.Restarting}, 0},
	} {
		if got := tc.figures.LoadsIn(&tc.now, time.Unix(100, 0)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
