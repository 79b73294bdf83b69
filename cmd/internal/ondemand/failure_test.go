package ondemand

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// TestOthersTookTheVRAM: a load that runs out of VRAM because another process has taken it
// raises no need, waits for that process, and is begun again with the need as it was.
func TestOthersTookTheVRAM(t *testing.T) {
	hold := func(m *machine, bytes uint64) {
		m.mu.Lock()
		m.foreign = bytes
		m.mu.Unlock()
	}
	for name, tc := range map[string]struct {
		left uint64 // what the other process holds in the end
		want supervisor.State
	}{
		"as much as it needs is free again": {12 * gib, ready},
		"less is":                           {14 * gib, unloaded},
	} {
		t.Run(name, func(t *testing.T) {
			inMachine(t, func(m *machine) {
				a := m.add("a", 11, func(s *simulated) { s.fails = []supervisor.Class{supervisor.OutOfVRAM} })
				a.call()
				time.Sleep(time.Second)
				m.want(loading)
				hold(m, 13*gib)
				time.Sleep(10 * time.Second)
				m.want(unloaded)
				hold(m, tc.left)
				time.Sleep(10 * time.Second)
				m.want(tc.want)
			})
		})
	}
}

// TestNeverWithoutCalls: that a model never fits is known before a call asks for it.
func TestNeverWithoutCalls(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 30, nil)
		time.Sleep(time.Second)
		m.want(unloaded)
		if f := m.owner.Figures("a"); f.Wait == nil || !f.Wait.Never || !strings.HasPrefix(a.Snapshot().Reason, "it cannot be loaded: it needs 30.1 GiB") {
			t.Errorf("%q, %+v", a.Snapshot().Reason, f.Wait)
		}
	})
}

// TestFailedForGood: a model that has failed for good is loaded when an operator asks for it,
// and not only because its file has changed.
func TestFailedForGood(t *testing.T) {
	const broken = supervisor.ModelCorrupt
	inMachine(t, func(m *machine) {
		a := m.add("a", 11, func(s *simulated) { s.fails = []supervisor.Class{broken, broken, broken} })
		for range 2 {
			a.demand.Load()
			time.Sleep(10 * time.Second)
			m.want(supervisor.Failed)
			if a.demand.Pending() {
				t.Error("the command does not end")
			}
		}
		if a.started() != 2 {
			t.Errorf("%d starts", a.started())
		}
		a.mu.Lock()
		a.begin() // its file has changed
		a.mu.Unlock()
		time.Sleep(time.Second)
		m.want(unloaded)
		a.mu.Lock()
		a.fails = nil
		a.mu.Unlock()
		a.call()
		time.Sleep(10 * time.Second)
		m.want(ready)
	})
}

// TestNeedIsSavedAtOnce: what was measured is in the file while the model is loaded, for the
// case that llmsup is killed.
func TestNeedIsSavedAtOnce(t *testing.T) {
	inMachine(t, func(m *machine) {
		a := m.add("a", 12, func(s *simulated) { s.assumed = 4 * gib })
		a.call()
		time.Sleep(10 * time.Second)
		m.want(ready)
		raw, err := os.ReadFile(filepath.Join(m.dir, "needs.json"))
		if err != nil || !strings.Contains(string(raw), "12884901888") {
			t.Errorf("%v: %s", err, raw)
		}
	})
}
