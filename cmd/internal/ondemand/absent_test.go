package ondemand

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// TestAbsent: a model whose file is downloaded shows that, is not loaded and needs no VRAM of
// others until the file is there; then the calls that wait for it load it.
func TestAbsent(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 16, nil)
		b := m.add("b", 16, func(s *simulated) { s.absent = time.Now().Add(time.Minute) })
		a.call()
		b.call()
		b.demand.Load()
		time.Sleep(30 * time.Second)
		m.want(ready, unloaded)
		if reason := b.Snapshot().Reason; reason != "downloading" || b.started() != 0 {
			t.Errorf("b: %s, %d starts", reason, b.started())
		}
		arrives := time.Now().Add(30 * time.Second)
		if f := m.owner.Figures("b"); f.Wait == nil || f.Wait.Never || f.Wait.Ready.Before(arrives) || f.Wait.Ready.After(arrives.Add(time.Minute)) {
			t.Errorf("%+v", f.Wait)
		}
		time.Sleep(time.Minute)
		m.want(unloaded, ready)
		if b.started() != 1 {
			t.Errorf("%d starts", b.started())
		}
	})
}

// TestAbsentUnloaded: an unload ends an operator's load that waits for the file, and is no unload of the
// model.
func TestAbsentUnloaded(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 16, func(s *simulated) { s.absent = time.Now().Add(time.Minute) })
		a.demand.Load()
		time.Sleep(30 * time.Second)
		a.demand.Unload(false)
		time.Sleep(time.Minute)
		m.want(unloaded)
		if unloads := m.owner.Figures("a").Unloads[ByOperator]; a.started() != 0 || unloads != 0 || a.demand.Pending() {
			t.Errorf("%d starts, %d unloads", a.started(), unloads)
		}
	})
}

// TestAbsentAtStart: a start that a reload has caused waits for no file: the model is unloaded
// until the file is there.
func TestAbsentAtStart(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 16, nil)
		a.call()
		time.Sleep(10 * time.Second)
		m.want(ready)
		m.mu.Lock()
		a.absent = time.Now().Add(time.Minute)
		a.set(supervisor.Starting, "downloading", func(n *supervisor.Snapshot) { n.PID = 0 })
		m.mu.Unlock()
		time.Sleep(10 * time.Second)
		m.want(unloaded)
		if reason := a.Snapshot().Reason; reason != "downloading" {
			t.Errorf("reason %q", reason)
		}
	})
}
