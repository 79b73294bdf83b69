package placement

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor"
)

// TestStatusDoesNotWaitForProc: what a server's processes have open is read while
// nothing is locked that Status needs, and only where there is a GPU.
func TestStatusDoesNotWaitForProc(t *testing.T) {
	const uuid = "GPU-1"
	for name, tc := range map[string]struct {
		gpus []gpu.GPU
		want int // times that it is read
	}{
		"not listed on its GPU": {[]gpu.GPU{{UUID: uuid}}, 1},
		"listed there":          {[]gpu.GPU{{UUID: uuid, ProcessesKnown: true, Processes: []gpu.Process{{PID: 7}}}}, 0},
		"no GPU":                {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewPool(gpu.NewNull(), func(_ string, configured uint64) uint64 { return configured }, zerolog.Nop()).Workload("chat")
			read := 0
			open := func() bool {
				read++
				if !w.mu.TryLock() {
					t.Error("Status would wait for it")
				} else {
					w.mu.Unlock()
				}
				return true
			}
			now := &supervisor.Snapshot{State: supervisor.Ready, PID: 7, Exited: make(chan struct{})}
			facts := w.observe(&gpu.Sample{GPUs: tc.gpus}, now, []int{7}, open, 0)
			if read != tc.want || facts.DeviceOpen != (tc.want > 0) || facts.PID != 7 {
				t.Errorf("read %d times, want %d: %+v", read, tc.want, facts)
			}
		})
	}
}

// TestReservation: VRAM is reserved from the decision to start until the process holds it,
// or has loaded, or has ended.
func TestReservation(t *testing.T) {
	p := NewPool(gpu.NewNull(), func(_ string, configured uint64) uint64 { return configured }, zerolog.Nop())
	w := p.Workload("chat")
	p.ApplyConfig([]*Workload{w, p.Workload("mail")}, config.GPU{})
	w.need, w.reserved = vram.Need{Weights: 9 * gib, Compute: gib}, true
	loading := func(held uint64) *gpu.Sample {
		g := card(0, 24*gib-held)
		g.ProcessesKnown, g.Processes = true, []gpu.Process{{PID: 7, Memory: &held}}
		return &gpu.Sample{GPUs: []gpu.GPU{g}}
	}
	gone := make(chan struct{})
	for _, step := range []struct {
		state     supervisor.State
		held      uint64
		unclaimed uint64
		reserved  bool
	}{
		{supervisor.Loading, 0, 10 * gib, true},
		{supervisor.Loading, 4 * gib, 6 * gib, true},
		{supervisor.Loading, 12 * gib, 0, true},
		{supervisor.Ready, 12 * gib, 0, false},
	} {
		s := loading(step.held)
		w.record(s, &supervisor.Snapshot{State: step.state, PID: 7, Exited: gone}, []int{7})
		all := p.residents(nil, s)
		if reserved := len(all) == 1; reserved != step.reserved || reserved && all[0].Unclaimed != step.unclaimed {
			t.Errorf("%s with %d bytes: %+v", step.state, step.held, all)
		}
		if others := p.residents(w, s); len(others) > 0 {
			t.Errorf("it waits for itself: %+v", others)
		}
	}
}

// fakeProcess is a Process that records its calls.
type fakeProcess struct {
	now    supervisor.Snapshot
	health []string
	killed []int
}

func (p *fakeProcess) Snapshot() *supervisor.Snapshot { return &p.now }
func (p *fakeProcess) Processes() ([]int, func() bool) {
	return []int{p.now.PID}, func() bool { return true }
}

func (p *fakeProcess) SetHealth(reason string) { p.health = append(p.health, reason) }

func (p *fakeProcess) Kill(pid int, _ supervisor.Class, _ string) {
	p.killed = append(p.killed, pid)
}

// TestEvaluateAll: a GPU that is busy with one server of llmsup is not busy with others'
// work, and a process whose GPU is lost is ended.
func TestEvaluateAll(t *testing.T) {
	p := NewPool(gpu.NewNull(), func(_ string, configured uint64) uint64 { return configured }, zerolog.Nop())
	policy := gpu.Policy{BadSamples: 1, GoodSamples: 1, BusyPercent: 95}
	processes := []*fakeProcess{
		{now: supervisor.Snapshot{State: supervisor.Ready, PID: 7}},
		{now: supervisor.Snapshot{State: supervisor.Ready, PID: 8}},
	}
	calls := []int{0, 0}
	var servers []Server
	for i, process := range processes {
		w := p.Workload(string(rune('a' + i)))
		w.policy = policy
		servers = append(servers, Server{Workload: w, Process: process, Calls: func() int { return calls[i] }})
	}
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	sample := func(lost, extra bool) *gpu.Sample {
		at = at.Add(time.Minute)
		g := card(0, gib)
		g.Lost, g.Utilization = lost, new(100)
		g.ProcessesKnown, g.Processes = true, []gpu.Process{{PID: 7, Memory: new(gib)}, {PID: 8, Memory: new(gib)}}
		return &gpu.Sample{At: at, GPUs: []gpu.GPU{g}, Extra: extra}
	}
	calls[1] = 1
	p.evaluateAll(sample(false, false), servers)
	p.evaluateAll(sample(false, false), servers)
	if got := strings.Join(processes[0].health, ""); got != "" {
		t.Errorf("beside a server of llmsup that works, it is %q", got)
	}
	calls[1] = 0
	p.evaluateAll(sample(false, true), servers) // an extra sample is not one more in a row
	if n := len(processes[0].health); n != 2 {
		t.Errorf("%d reports after an extra sample, want 2", n)
	}
	p.evaluateAll(sample(false, false), servers)
	p.evaluateAll(sample(false, false), servers)
	if got := processes[0].health[len(processes[0].health)-1]; !strings.Contains(got, "busy") || len(servers[0].Workload.Conditions()) != 1 {
		t.Errorf("on a GPU that others use it is %q", got)
	}
	if len(processes[0].killed) > 0 {
		t.Error("it is ended before its GPU is lost")
	}
	p.evaluateAll(sample(true, false), servers)
	for i, process := range processes {
		if len(process.killed) != 1 {
			t.Errorf("server %d was ended %d times, want once", i, len(process.killed))
		}
	}
}
