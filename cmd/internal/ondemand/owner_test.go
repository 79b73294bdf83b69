package ondemand

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

const (
	unloaded  = supervisor.Unloaded
	unloading = supervisor.Unloading
	loading   = supervisor.Loading
	ready     = supervisor.Ready
	drained   = supervisor.Drained
)

// TestLoadsOnce: one call loads a model, and many calls load it once. Without calls it is
// unloaded after a time, and not loaded again by the calls of before.
func TestLoadsOnce(t *testing.T) {
	for name, fallback := range map[string]bool{"calls wait": false, "calls go elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			inMachine(t, func(m *machine) {
				a := m.add("a", 10, func(s *simulated) { s.settings.Fallback, s.settings.IdleUnload = fallback, time.Minute })
				time.Sleep(time.Hour)
				m.want(unloaded)
				for range 10 {
					a.call()
				}
				m.want(loading)
				time.Sleep(10 * time.Second)
				m.want(ready)
				time.Sleep(30 * time.Second)
				a.call()
				time.Sleep(55 * time.Second)
				m.want(ready)
				time.Sleep(10 * time.Second)
				m.want(unloaded)
				if reason := a.Snapshot().Reason; reason != "idle for 1m; a call loads it" {
					t.Errorf("reason %q", reason)
				}
				time.Sleep(time.Hour)
				m.want(unloaded)
				if f := m.owner.Figures("a"); a.started() != 1 || f.Loads != 1 || f.Unloads[Idle] != 1 || f.LoadTime != 4*time.Second || f.Measured != 10*gib || f.Need != 10*gib {
					t.Errorf("%d loads, %+v", a.started(), f)
				}
			})
		})
	}
}

// TestLoadTimes: each load is reported once, and not when a drain ends that has kept the process.
func TestLoadTimes(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 10, nil)
		m.add("always", 1, func(s *simulated) { s.settings.OnDemand, s.load = false, 2*time.Second })
		a.call()
		time.Sleep(5 * time.Second)
		for _, state := range []supervisor.State{drained, ready} {
			m.mu.Lock()
			a.set(state, "", nil)
			m.mu.Unlock()
			m.want(state, ready)
		}
		a.demand.Unload(false)
		m.want(unloaded, ready)
		a.call()
		time.Sleep(10 * time.Second)
		m.want(ready, ready)
		m.mu.Lock()
		defer m.mu.Unlock()
		if got := strings.Join(m.loadTimes, ", "); got != "always 2s, a 4s, a 4s" {
			t.Errorf("loads %s", got)
		}
	})
}

// TestEvicts: a model that calls wait for takes the place of another one, whose calls end
// first; the next one is not started before its VRAM is free.
func TestEvicts(t *testing.T) {
	inMachine(t, func(m *machine) {
		a, b := m.add("a", 16, nil), m.add("b", 16, nil)
		a.call()
		time.Sleep(5 * time.Second)
		m.want(ready, unloaded)
		a.inFlight(1)
		b.call()
		time.Sleep(50 * time.Second)
		m.want(unloading, unloaded)
		if reason := b.Snapshot().Reason; reason != "it waits to be loaded: another model is being unloaded" {
			t.Errorf("b is unloaded: %s", reason)
		}
		if f := m.owner.Figures("b"); f.Wait == nil || f.Wait.Never || !f.Wait.Ready.After(time.Now().Add(20*time.Second)) {
			t.Errorf("%+v", f.Wait) // its load takes at least 10 s, and so do the calls of a
		}
		a.inFlight(0)
		time.Sleep(3 * time.Second)
		m.want(unloaded, loading)
		if reason := a.Snapshot().Reason; reason != "b needs its VRAM; a call loads it" {
			t.Errorf("a is unloaded: %s", reason)
		}
		a.call() // a model that has just been loaded stays for a while
		time.Sleep(5 * time.Second)
		m.want(unloaded, ready)
		time.Sleep(time.Minute)
		m.want(ready, unloaded)
	})
}

// TestStays: a model whose calls have not ended stays if the call that it was to leave for is
// gone, or finds other VRAM; it is not started again.
func TestStays(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(m *machine, waits *simulated)
		want   []supervisor.State
	}{
		"the call still waits": {func(*machine, *simulated) {}, []supervisor.State{unloading, unloaded}},
		"its client is gone":   {func(_ *machine, waits *simulated) { waits.calls.ForModel = 0 }, []supervisor.State{ready, unloaded}},
		"other VRAM is free":   {func(m *machine, _ *simulated) { m.foreign = 0 }, []supervisor.State{ready, ready}},
	} {
		t.Run(name, func(t *testing.T) {
			inMachine(t, func(m *machine) {
				m.mu.Lock()
				m.foreign = 8 * gib
				m.read()
				m.mu.Unlock()
				a, b := m.add("a", 10, nil), m.add("b", 10, nil)
				a.call()
				time.Sleep(time.Minute)
				a.inFlight(1)
				b.call()
				time.Sleep(20 * time.Second)
				m.want(unloading, unloaded)
				m.mu.Lock()
				tc.change(m, b)
				m.mu.Unlock()
				time.Sleep(10 * time.Second)
				m.want(tc.want...)
				if a.started() != 1 {
					t.Errorf("a was started %d times", a.started())
				}
				if tc.want[0] == unloading {
					a.call() // it waits for its own model, which leaves all the same
					time.Sleep(10 * time.Second)
					m.want(unloading, unloaded)
				}
			})
		})
	}
	inMachine(t, func(m *machine) { // an operator's unload holds
		a := m.add("a", 10, nil)
		a.call()
		time.Sleep(time.Minute)
		a.inFlight(1)
		a.demand.Unload(false)
		time.Sleep(time.Minute)
		m.want(unloading)
	})
}

// TestEvictsNoMore: no more models leave than have to, also where models are loaded and
// unloaded between two readings of the driver.
func TestEvictsNoMore(t *testing.T) {
	inMachine(t, func(m *machine) {
		fast := func(s *simulated) { s.load = 100 * time.Millisecond }
		a := m.add("a", 11, fast)
		for _, s := range []*simulated{a, m.add("b", 11, fast), m.add("c", 11, fast)} {
			s.demand.Load()
			time.Sleep(3100 * time.Millisecond) // not in step with the readings
		}
		m.want(unloaded, ready, ready)
		a.demand.Load()
		time.Sleep(3 * time.Second)
		m.want(ready, unloaded, ready)
	})
}

// TestDrainTime: the calls of a model that leaves have half a minute, if other backends can
// continue all of them then, and otherwise for as long as that takes.
func TestDrainTime(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 10, func(s *simulated) { s.settings.Fallback = true })
		a.demand.Load()
		time.Sleep(time.Minute)
		m.want(ready)
		until := func() time.Time {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.unload.Until
		}
		bind := func(calls int) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.calls.Bound = calls
		}
		a.inFlight(3)
		a.demand.Unload(false)
		time.Sleep(drainBound - 5*time.Second)
		m.want(unloading)
		bind(1) // its answer is no text any more
		time.Sleep(time.Minute)
		m.want(unloading)
		if !until().IsZero() {
			t.Errorf("a call that cannot continue elsewhere has until %s", until())
		}
		bind(0)
		began := time.Now()
		time.Sleep(2 * time.Second)
		if took := until().Sub(began); took < 0 || took > interval {
			t.Errorf("the other calls have until %s after it has ended", took)
		}
		a.inFlight(0)
		m.want(unloaded)

		a.demand.Load()
		time.Sleep(10 * time.Second)
		a.inFlight(1)
		began = time.Now()
		a.demand.Unload(false)
		time.Sleep(2 * drainBound)
		if took := until().Sub(began); took < drainBound || took > drainBound+2*interval {
			t.Errorf("a call that can continue elsewhere has %s", took)
		}
	})
}

// TestMeasuredNeed: a model that holds more than it is assumed to need is planned with what it
// held.
func TestMeasuredNeed(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 16, func(s *simulated) { s.assumed = 4 * gib })
		b := m.add("b", 10, nil)
		a.demand.Load()
		time.Sleep(10 * time.Second)
		b.demand.Load()
		time.Sleep(10 * time.Second)
		m.want(unloaded, ready)
		a.call()
		time.Sleep(time.Minute)
		m.want(ready, unloaded)
	})
}

// TestConfiguredNeed: a configured need counts until the driver was read after the model had
// answered a call, and then what was measured, whether it is more or less. It counts again once a
// load with less has run out of VRAM.
func TestConfiguredNeed(t *testing.T) {
	for name, tc := range map[string]struct {
		loaded, answered uint64 // GiB that it holds before and after its first call
		want             uint64 // GiB, that it needs then
		outOfVRAM        bool
	}{
		"it holds less":              {loaded: 6, answered: 6, want: 6},
		"it holds more":              {loaded: 20, answered: 20, want: 20},
		"it allocates what it needs": {loaded: 3, answered: 14, want: 14},
		"less is too little":         {loaded: 6, answered: 6, want: 16, outOfVRAM: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, dir)
				stop := m.run()
				a := m.add("a", 0, func(s *simulated) { s.assumed, s.isVRAM, s.size = 16*gib, true, tc.loaded*gib })
				need := func(when string, want uint64) {
					t.Helper()
					time.Sleep(3 * time.Second)
					if f := m.owner.Figures("a"); f.Need != want*gib {
						t.Errorf("%s it needs %d GiB, want %d", when, f.Need/gib, want)
					}
				}
				a.demand.Load()
				time.Sleep(time.Minute)
				m.want(ready)
				need("loaded,", max(16, tc.loaded))
				a.call()
				a.inFlight(1)
				m.mu.Lock()
				a.size = tc.answered * gib
				m.mu.Unlock()
				need("before its first answer", max(16, tc.answered))
				a.inFlight(0)
				if tc.outOfVRAM {
					need("after a call", tc.answered)
					a.demand.Unload(false)
					time.Sleep(time.Minute)
					m.mu.Lock()
					a.fails = []supervisor.Class{supervisor.OutOfVRAM}
					m.mu.Unlock()
					a.demand.Load()
					time.Sleep(2 * time.Minute)
					m.want(ready)
					a.call()
				}
				need("in the end", tc.want)
				stop()
				m = newMachine(t, dir) // llmsup is restarted
				stop = m.run()
				m.add("a", 0, func(s *simulated) { s.assumed, s.isVRAM = 16*gib, true })
				need("after a restart", tc.want)
				stop()
			})
		})
	}
}

// TestFillsTheGPU: a model that was measured to leave less than the margin free can be loaded
// again.
func TestFillsTheGPU(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 23.99, func(s *simulated) { s.assumed = 4 * gib })
		b := m.add("b", 10, nil)
		for range 2 {
			a.demand.Load()
			time.Sleep(time.Minute)
			m.want(ready, unloaded)
			b.demand.Load()
			time.Sleep(time.Minute)
			m.want(unloaded, ready)
		}
	})
}

// TestFreesWhatItHolds: a model whose end frees less than it is assumed to need is not unloaded
// for one that then would not fit.
func TestFreesWhatItHolds(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 2, func(s *simulated) { s.assumed = 11 * gib })
		b, c := m.add("b", 13, nil), m.add("c", 12, nil)
		for _, s := range []*simulated{b, a, c} {
			time.Sleep(time.Minute) // the last one is the most likely to be used again
			s.demand.Load()
			time.Sleep(10 * time.Second)
			b.call()
		}
		m.want(ready, unloaded, ready)
		if a.started() != 1 {
			t.Error("a was unloaded")
		}
	})
}

// TestAlternation: with calls for two models in turn that do not fit together, the GPU does
// not spend its time on loading them.
func TestAlternation(t *testing.T) {
	for name, fallback := range map[string]bool{"calls wait": false, "calls go elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			inMachine(t, func(m *machine) {
				both := func(s *simulated) { s.settings.Fallback = fallback }
				a, b := m.add("a", 16, both), m.add("b", 16, both)
				for i := range 5 * 300 {
					[]*simulated{a, b}[i%2].call()
					time.Sleep(200 * time.Millisecond)
				}
				if loads := a.started() + b.started(); loads < 1 || loads > 300/12+1 {
					t.Errorf("%d loads of 4 s in 300 s", loads)
				}
				if !fallback && (a.started() < 3 || b.started() < 3) {
					t.Errorf("a was loaded %d times, b %d times", a.started(), b.started())
				}
				m.mu.Lock()
				defer m.mu.Unlock()
				if m.most > 24*gib {
					t.Error("both were started at once")
				}
			})
		})
	}
}

// TestNever: calls for a model that never fits learn so at once, and it evicts none.
func TestNever(t *testing.T) {
	inMachine(t, func(m *machine) {
		a, b := m.add("a", 16, nil), m.add("b", 30, nil)
		a.call()
		time.Sleep(10 * time.Second)
		b.call()
		m.want(ready, unloaded)
		if f, reason := m.owner.Figures("b"), b.Snapshot().Reason; f.Wait == nil || !f.Wait.Never || reason != "it cannot be loaded: it needs 30.1 GiB, and GPU 0 has 24.0 GiB" {
			t.Errorf("%q, %+v", reason, f.Wait)
		}
	})
}

// TestOutOfVRAM: a load that runs out of VRAM is planned again with a larger need, for which
// another model leaves, and after that with a pause.
func TestOutOfVRAM(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 8, nil)
		b := m.add("b", 14, func(s *simulated) { s.fails = []supervisor.Class{supervisor.OutOfVRAM} })
		a.call()
		time.Sleep(30 * time.Second)
		b.call()
		time.Sleep(time.Second)
		m.want(ready, loading)
		time.Sleep(5 * time.Second)
		b.mu.Lock()
		waits := b.calls.ForModel
		b.mu.Unlock()
		if waits != 1 {
			t.Error("its load has not failed")
		}
		time.Sleep(time.Minute)
		m.want(unloaded, ready)
		if b.started() != 2 {
			t.Errorf("%d loads", b.started())
		}
	})
	inMachine(t, func(m *machine) {
		oom := supervisor.OutOfVRAM
		a := m.add("a", 8, func(s *simulated) { s.fails = []supervisor.Class{oom, oom, oom} })
		a.demand.Load()
		time.Sleep(20 * time.Second)
		if a.started() != 2 || a.demand.Pending() {
			t.Errorf("%d loads", a.started())
		}
		a.call()
		time.Sleep(30 * time.Second)
		if a.started() != 2 {
			t.Errorf("%d loads without a pause", a.started())
		}
		time.Sleep(5 * time.Minute)
		m.want(ready)
		if a.started() != 4 {
			t.Errorf("%d loads", a.started())
		}
	})
}

// TestFails: a server that fails otherwise is restarted for as long as calls need it.
func TestFails(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 8, func(s *simulated) { s.fails = []supervisor.Class{supervisor.Unknown, supervisor.Unknown} })
		a.call()
		time.Sleep(7 * time.Second)
		m.want(loading)
		a.mu.Lock()
		a.calls.ForModel = 0 // its client is gone
		a.mu.Unlock()
		time.Sleep(20 * time.Second)
		m.want(unloaded)
		if reason := a.Snapshot().Reason; !strings.HasPrefix(reason, string(supervisor.Unknown)) || a.started() != 2 {
			t.Errorf("%q after %d loads", reason, a.started())
		}
	})
}

// TestForeignVRAM: VRAM that another process takes before the start is waited for.
func TestForeignVRAM(t *testing.T) {
	inMachine(t, func(m *machine) {
		m.mu.Lock()
		m.foreign = 20 * gib
		m.mu.Unlock()
		time.Sleep(2 * time.Second)
		a := m.add("a", 8, nil)
		a.call()
		time.Sleep(time.Minute)
		m.want(unloaded)
		if reason := a.Snapshot().Reason; reason != "it waits to be loaded: the VRAM is held by other processes or by pinned models; held by pid 99999 game 20.0 GiB" {
			t.Errorf("%q", reason)
		}
		m.mu.Lock()
		m.foreign = 0
		m.mu.Unlock()
		time.Sleep(10 * time.Second)
		m.want(ready)
	})
}

// TestLoadNeverEnds: a model that loads for ever does not keep others from the GPU for ever.
func TestLoadNeverEnds(t *testing.T) {
	inMachine(t, func(m *machine) {
		a, b := m.add("a", 16, func(s *simulated) { s.load = time.Hour }), m.add("b", 16, nil)
		a.call()
		time.Sleep(time.Minute)
		b.call()
		time.Sleep(overdueTime - 2*time.Minute)
		m.want(loading, unloaded)
		if reason := b.Snapshot().Reason; reason != "it waits to be loaded: other models are loaded first" {
			t.Errorf("%q", reason)
		}
		a.mu.Lock()
		a.calls.ForModel = 0 // its client is gone
		a.mu.Unlock()
		time.Sleep(2 * time.Minute)
		m.want(unloaded, ready)
	})
}

// TestDrainPrevails: what an operator has drained is neither loaded nor unloaded, and it is
// unloaded after the drain if it was before.
func TestDrainPrevails(t *testing.T) {
	inMachine(t, func(m *machine) {
		a, b := m.add("a", 16, nil), m.add("b", 16, nil)
		a.drain(true)
		time.Sleep(time.Second)
		a.demand.Load()
		time.Sleep(time.Minute)
		m.want(drained, unloaded)
		b.call()
		time.Sleep(10 * time.Second)
		m.want(drained, ready)
		a.demand.Unload(false)
		a.drain(false)
		time.Sleep(time.Minute)
		m.want(unloaded, ready)
	})
}

// TestOperator: an operator's load comes first, and an unload holds until the next call.
func TestOperator(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 16, func(s *simulated) { s.settings.Pinned = true })
		b := m.add("b", 16, nil)
		b.demand.Load()
		time.Sleep(10 * time.Second)
		m.want(unloaded, ready)
		b.inFlight(1)
		a.demand.Load()
		time.Sleep(10 * time.Second)
		m.want(unloaded, unloading)
		b.inFlight(0)
		time.Sleep(10 * time.Second)
		m.want(ready, unloaded)
		b.call()
		time.Sleep(5 * time.Minute)
		m.want(ready, unloaded) // it is pinned
		a.demand.Unload(false)
		time.Sleep(10 * time.Second)
		m.want(unloaded, ready)
		if f := m.owner.Figures("a"); f.Unloads[ByOperator] != 1 {
			t.Errorf("%+v", f)
		}
	})
}

// TestPromptCaches: of two models that are equal otherwise, the one leaves whose caches hold
// less.
func TestPromptCaches(t *testing.T) {
	for i, name := range []string{"the first", "the second"} {
		t.Run(name+" has a long prompt", func(t *testing.T) {
			inMachine(t, func(m *machine) {
				both := []*simulated{m.add("a", 11, nil), m.add("b", 11, nil)}
				for _, s := range both {
					s.call()
				}
				time.Sleep(20 * time.Second)
				m.mu.Lock()
				both[i].rebuild = time.Minute
				m.mu.Unlock()
				m.want(ready, ready)
				m.add("c", 11, nil).call()
				time.Sleep(time.Minute)
				want := []supervisor.State{unloaded, unloaded, ready}
				want[i] = ready
				m.want(want...)
			})
		})
	}
}

// TestPin: a model that an operator has pinned stays, and leaves once it is unpinned or a
// reload changes the setting.
func TestPin(t *testing.T) {
	for name, tc := range map[string]struct {
		configured bool // pinned: in the configuration
		pin        *bool
		reload     bool // changes pinned: to false
		stays      bool
	}{
		"not pinned":                    {},
		"pinned":                        {pin: new(true), stays: true},
		"unpinned":                      {configured: true, pin: new(false)},
		"pinned, and so configured":     {configured: true, pin: new(true), stays: true},
		"a reload changes it":           {configured: true, pin: new(true), reload: true},
		"a reload that changes nothing": {pin: new(true), reload: true, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			inMachine(t, func(m *machine) {
				a := m.add("a", 16, func(s *simulated) { s.settings.Pinned = tc.configured })
				b := m.add("b", 16, nil)
				a.call()
				time.Sleep(time.Minute)
				if tc.pin != nil {
					a.demand.Pin(*tc.pin)
				}
				if tc.reload {
					m.mu.Lock()
					a.settings.Pinned = false
					m.setServers([]*simulated{a, b})
					m.mu.Unlock()
					time.Sleep(time.Second)
				}
				b.call()
				time.Sleep(time.Minute)
				if tc.stays {
					m.want(ready, unloaded)
				} else {
					m.want(unloaded, ready)
				}
				if got := a.demand.Pinned(a.settings.Pinned); got != tc.stays {
					t.Errorf("pinned: %t", got)
				}
			})
		})
	}
}

// TestReload: a server that is no longer on demand is loaded, and others make room for it.
func TestReload(t *testing.T) {
	inMachine(t, func(m *machine) {
		a, b := m.add("a", 16, nil), m.add("b", 16, nil)
		b.call()
		time.Sleep(20 * time.Second)
		m.want(unloaded, ready)
		m.mu.Lock()
		m.setServers([]*simulated{a})
		m.mu.Unlock()
		a.call()
		time.Sleep(time.Minute)
		m.mu.Lock()
		b.settings.OnDemand = false
		b.unload = &supervisor.DrainOptions{Reason: OnCall}
		b.leave()
		m.setServers([]*simulated{a, b})
		m.mu.Unlock()
		synctest.Wait()
		if b.Snapshot().UnloadRequested {
			t.Error("a server that is always loaded is still to be unloaded")
		}
	})
}

// TestNeedIsKept: what was measured is known after a restart of llmsup.
func TestNeedIsKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for i, want := range []uint64{0, 12 * gib} {
			m := newMachine(t, dir)
			stop := m.run()
			a := m.add("a", 12, func(s *simulated) { s.assumed = 4 * gib })
			time.Sleep(time.Second)
			if f := m.owner.Figures("a"); f.Measured != want || f.Need != max(want, 4*gib) {
				t.Errorf("start %d: %+v", i, f)
			}
			a.call()
			time.Sleep(10 * time.Second)
			stop()
		}
	})
}

// TestAlwaysLoaded: models that are loaded on demand make room for a server that is always
// loaded and waits for VRAM.
func TestAlwaysLoaded(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 16, nil)
		a.demand.Load()
		time.Sleep(10 * time.Second)
		b := m.add("b", 16, func(s *simulated) { s.settings.OnDemand, s.load = false, time.Hour })
		m.mu.Lock()
		b.life++ // its start waits, as placement makes it
		b.set(supervisor.Starting, "waiting for VRAM", func(n *supervisor.Snapshot) { n.PID = 0 })
		m.most = 0
		m.mu.Unlock()
		time.Sleep(time.Minute)
		m.want(unloaded, supervisor.Starting)
	})
}
