package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

// watchGPUs has each sample judged for each server, until ctx ends.
func (d *Daemon) watchGPUs(ctx context.Context) {
	s := d.monitor.Sample()
	for {
		if !s.At.IsZero() {
			d.house.judge(s)
			for _, served := range d.servers() {
				served.tenant.judge(s, served.server, d.router.Traffic(served.name).Calls)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Changed:
			s = s.Next() // none is missed: an error is reported in one of them
		}
	}
}

// judge finds out what is wrong with GPUs themselves, whoever uses them.
func (h *house) judge(s *gpu.Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := gpu.Server{}
	for _, g := range s.GPUs {
		all.GPUs = append(all.GPUs, g.UUID)
	}
	var v gpu.Verdict
	h.history, v = h.policy.Next(h.history, s, all)
	h.findings = v.Findings
}

// judge tells a server what a sample means for it: that it is degraded, that it
// no longer is, or that its process has to end.
func (t *tenant) judge(s *gpu.Sample, server *supervisor.Server, calls int) {
	now := server.Snapshot()
	pids, gpuOpen := server.Processes()
	t.mu.Lock()
	t.note(s, now, pids)
	facts := t.facts(s, now, calls)
	facts.PIDs = pids
	if facts.PID != 0 && len(t.seen) == 0 { // only then it matters, and costs a look
		facts.HasOpen = gpuOpen()
	}
	var v gpu.Verdict
	t.history, v = t.policy.Next(t.history, s, facts)
	t.findings = v.Findings
	t.mu.Unlock()

	server.SetHealth(v.Words())
	if v.Ends != nil {
		server.Condemn(now.PID, supervisor.GPUFailed, v.Ends.Words)
	}
}

// note remembers where the process is, and what it holds there.
func (t *tenant) note(s *gpu.Sample, now *supervisor.Snapshot, pids []int) {
	if now.PID == 0 || ended(now) {
		return
	}
	if now.PID != t.pid {
		t.pid, t.seen, t.holds = now.PID, map[string]bool{}, nil
	}
	if now.State.Alive() {
		t.admitted = false // what it needs, it has
	}
	if s.Problem != "" {
		return
	}
	var held uint64
	listed := false
	for _, g := range s.GPUs {
		for _, p := range g.Processes {
			if !slices.Contains(pids, p.PID) {
				continue
			}
			t.seen[g.UUID] = true
			if p.Memory == nil {
				return // nobody can tell
			}
			listed = true
			held += *p.Memory
		}
	}
	free, known := freeOf(t.gpus(s))
	if listed && known {
		t.holds, t.freeThen, t.gone = &held, free, time.Time{}
	}
}

func ended(now *supervisor.Snapshot) bool {
	select {
	case <-now.Gone:
		return true
	default:
		return false
	}
}

// facts puts together what the verdict needs to know of a server.
func (t *tenant) facts(s *gpu.Sample, now *supervisor.Snapshot, calls int) gpu.Server {
	f := gpu.Server{PID: now.PID, Loaded: now.State.Alive() || now.State == supervisor.Draining, Calls: calls}
	for _, g := range t.gpus(s) {
		f.GPUs = append(f.GPUs, g.UUID)
	}
	if t.need.Unsure == "" { // else they may be somewhere else by the operator's will
		f.Weights = t.need.Weights
	}
	if slots := max(now.Slots, 1); now.State.Alive() && now.Slots > 0 {
		f.Asked, f.Given = t.askedContext(slots), now.CtxSize*slots
	}
	return f
}

// askedContext is how many tokens of context a server should have, for all slots
// together. It can't have more than the model was made for, and shares them out
// in steps.
func (t *tenant) askedContext(slots int) int {
	const step = 256
	asked := t.entry.CtxSize
	if t.trained > 0 {
		asked = min(asked, t.trained*slots)
	}
	return asked - step*slots
}
