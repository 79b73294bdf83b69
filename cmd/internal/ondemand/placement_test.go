package ondemand

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// inMachineWith runs a test on a machine with several GPUs.
func inMachineWith(t *testing.T, gpus int, test func(*machine)) {
	inMachine(t, func(m *machine) {
		m.mu.Lock()
		m.gpus = gpus
		m.read()
		m.mu.Unlock()
		time.Sleep(2 * time.Second)
		test(m)
	})
}

const noGPU = -2 // no process

// on checks on which GPU each server's process is; -1 = on all.
func (m *machine) on(gpus ...int) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, want := range gpus {
		s := m.servers[i]
		got := s.gpu
		if s.now.PID == 0 {
			got = noGPU
		}
		if got != want {
			m.t.Errorf("%s is on GPU %d, want %d", s.name, got, want)
		}
	}
}

// TestSeveralGPUs: each model is on one GPU if it fits there, on the one of which it leaves
// the least unused, and is split over all otherwise.
func TestSeveralGPUs(t *testing.T) {
	inMachineWith(t, 2, func(m *machine) {
		a, b, c := m.add("a", 10, nil), m.add("b", 16, nil), m.add("c", 5, nil)
		for _, s := range []*simulated{a, b, c} {
			s.call()
			time.Sleep(30 * time.Second)
		}
		m.want(ready, ready, ready)
		m.on(0, 1, 1)
		if f := m.owner.Figures("c"); len(f.GPUs) != 1 || f.GPUs[0] != "GPU-b" || f.Need != 5*gib || f.Measured != 5*gib {
			t.Errorf("%+v", f)
		}

		// It may also be elsewhere, with what was measured where that holds.
		if f := m.owner.Figures("c"); !reflect.DeepEqual(f.Choices, []Choice{{{"GPU-a", 5 * gib}}, {{"GPU-b", 5 * gib}}, {{"GPU-a", 5 * gib / 2}, {"GPU-b", 5 * gib / 2}}}) {
			t.Errorf("choices %v", f.Choices)
		}

		// On GPU 0 one model has to leave, on GPU 1 two.
		d := m.add("d", 18, nil)
		d.call()
		time.Sleep(time.Minute)
		m.want(unloaded, ready, ready, ready)
		m.on(noGPU, 1, 1, 0)

		// One that fits on no GPU is split, and what it held on each is not what it needs on one.
		e := m.add("e", 40, nil)
		e.call()
		time.Sleep(time.Minute)
		m.want(unloaded, unloaded, unloaded, unloaded, ready)
		m.on(noGPU, noGPU, noGPU, noGPU, -1)
		if f := m.owner.Figures("e"); len(f.GPUs) != 2 || f.Need != 40*gib || f.Measured != 40*gib {
			t.Errorf("%+v", f)
		}
		for _, s := range []*simulated{a, b} {
			s.call()
		}
		time.Sleep(time.Minute)
		m.want(ready, ready, unloaded, unloaded, unloaded)
	})
}

// TestNeedOnOneGPU: what a model held on one GPU holds for each of them.
func TestNeedOnOneGPU(t *testing.T) {
	inMachineWith(t, 2, func(m *machine) {
		a := m.add("a", 16, func(s *simulated) { s.assumed = 4 * gib })
		a.demand.Load()
		time.Sleep(10 * time.Second)
		m.on(0)
		a.demand.Unload(false)
		time.Sleep(10 * time.Second)
		m.mu.Lock()
		m.foreign = 12 * gib // on GPU 0, where 4 GiB would fit
		m.mu.Unlock()
		time.Sleep(2 * time.Second)
		a.demand.Load()
		time.Sleep(10 * time.Second)
		m.want(ready)
		m.on(1)
		if f := m.owner.Figures("a"); f.Need != 16*gib {
			t.Errorf("%+v", f)
		}
	})
}

// TestGPULost: a model whose GPU is lost is loaded on another one; one that nothing needs is
// unloaded.
func TestGPULost(t *testing.T) {
	for name, needed := range map[string]bool{"calls need it": true, "nothing needs it": false} {
		t.Run(name, func(t *testing.T) {
			inMachineWith(t, 2, func(m *machine) {
				a := m.add("a", 16, nil)
				a.call()
				time.Sleep(10 * time.Second)
				m.want(ready)
				m.on(0)
				m.mu.Lock()
				m.lost = 0
				a.life++
				if needed {
					a.calls.ForModel, a.calls.Since = 1, time.Now()
				}
				a.set(supervisor.Restarting, "its GPU is lost", func(n *supervisor.Snapshot) {
					n.PID, n.NextStart, n.LastExit = 0, time.Now().Add(time.Second), &supervisor.Exit{Class: supervisor.GPUFailed}
				})
				m.mu.Unlock()
				time.Sleep(10 * time.Second)
				if !needed {
					m.want(unloaded)
					return
				}
				m.want(ready)
				m.on(1)
			})
		})
	}
}

// TestStartThatWaits: a start that waits for the GPU that was chosen for it is planned again.
func TestStartThatWaits(t *testing.T) {
	inMachineWith(t, 2, func(m *machine) {
		a := m.add("a", 16, nil)
		a.call()
		time.Sleep(10 * time.Second)
		m.on(0)
		m.mu.Lock()
		m.foreign = 20 * gib
		a.life++
		a.calls.ForModel, a.calls.Since = 1, time.Now()
		a.set(supervisor.Starting, "waiting for VRAM", func(n *supervisor.Snapshot) { n.PID = 0 })
		m.mu.Unlock()
		time.Sleep(10 * time.Second)
		m.want(supervisor.Starting)
		time.Sleep(20 * time.Second)
		m.want(ready)
		m.on(1)
	})
}

// TestStray: a model whose process does not stay on the GPU that it was put on is planned on
// all of them.
func TestStray(t *testing.T) {
	inMachineWith(t, 2, func(m *machine) {
		a := m.add("a", 20, func(s *simulated) { s.strays = true })
		b := m.add("b", 30, nil)
		a.demand.Load()
		time.Sleep(10 * time.Second)
		m.want(ready, unloaded)
		if f := m.owner.Figures("a"); len(f.GPUs) != 2 || f.Need != 20*gib {
			t.Errorf("%+v", f)
		}
		b.call()
		time.Sleep(50 * time.Second)
		m.want(unloaded, ready)
		a.call()
		time.Sleep(2 * time.Minute)
		m.want(ready, unloaded)
		if reason := b.Snapshot().Reason; !strings.HasPrefix(reason, "a needs its VRAM") {
			t.Errorf("%q", reason)
		}
	})
}
