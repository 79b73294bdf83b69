package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor"
)

// watchGPUs has each sample judged for each server, until ctx ends.
func (d *Daemon) watchGPUs(ctx context.Context) {
	s := d.monitor.Sample()
	for {
		if !s.At.IsZero() {
			d.judgeAll(s)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Changed:
			s = s.Next() // none is missed: an error is reported in one of them
		}
	}
}

// occupant is a tenant at the time of a sample.
type occupant struct {
	tenant *tenant
	server *supervisor.Server
	facts  gpu.Server
	works  bool // it has calls, or is loading
}

// judgeAll tells the servers what a sample means for them. What one of ours does
// on a GPU is not held against another one.
func (d *Daemon) judgeAll(s *gpu.Sample) {
	counts := !s.Extra || s.HasReports()
	if counts {
		d.house.judge(s)
	}
	var all []occupant
	for _, served := range d.servers() {
		all = append(all, served.tenant.look(s, served.server, d.router.Traffic(served.name).Calls))
	}
	if !counts {
		return
	}
	for i, o := range all {
		for j, other := range all {
			if i != j && slices.ContainsFunc(other.facts.GPUs, func(uuid string) bool { return slices.Contains(o.facts.GPUs, uuid) }) {
				o.facts.Kin = append(o.facts.Kin, other.facts.PIDs...)
				o.facts.KinWork = o.facts.KinWork || other.works
			}
		}
		o.judge(s)
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
	// Memory errors are counted from a server's start, and there is none here.
	h.findings = slices.DeleteFunc(v.Findings, func(f gpu.Finding) bool { return f.Reason == gpu.ECC })
}

// judge tells a server what a sample means for it: that it is degraded, that it
// no longer is, or that its process has to end.
func (o occupant) judge(s *gpu.Sample) {
	t := o.tenant
	t.mu.Lock()
	var v gpu.Verdict
	t.history, v = t.policy.Next(t.history, s, o.facts)
	t.findings = v.Findings
	t.mu.Unlock()

	o.server.SetHealth(v.Words())
	if v.Ends != nil {
		o.server.Condemn(o.facts.PID, supervisor.GPUFailed, v.Ends.Words)
	}
}

// look puts together what is known of a server at the time of a sample.
func (t *tenant) look(s *gpu.Sample, server *supervisor.Server, calls int) occupant {
	now := server.Snapshot()
	pids, gpuOpen := server.Processes()
	o := occupant{tenant: t, server: server, works: calls > 0 || now.State == supervisor.Loading}
	o.facts = t.observe(s, now, pids, gpuOpen, calls)
	return o
}

// observe notes what a sample shows of the server's processes, and returns what the
// verdict needs to know of it. gpuOpen reads /proc, which can take long on a busy
// machine: it is called without the lock, which Status takes too.
func (t *tenant) observe(s *gpu.Sample, now *supervisor.Snapshot, pids []int, gpuOpen func() bool, calls int) gpu.Server {
	t.mu.Lock()
	listed := t.note(s, now, pids)
	facts := t.facts(s, now, calls)
	t.mu.Unlock()
	facts.PIDs = pids
	if facts.PID != 0 && !listed && len(facts.GPUs) > 0 { // only then it matters
		facts.HasOpen = gpuOpen()
	}
	return facts
}

// note remembers where the process is, and what it holds there. It returns
// whether the driver lists it.
func (t *tenant) note(s *gpu.Sample, now *supervisor.Snapshot, pids []int) (listed bool) {
	if now.State != supervisor.Starting && now.State != supervisor.Loading {
		t.admitted = false // what it needs it has, or needs no longer
	}
	if now.PID == 0 || ended(now) {
		return false
	}
	if now.PID != t.pid {
		t.pid, t.seen, t.absent, t.holds = now.PID, map[string]bool{}, t.lost, nil
	}
	if s.Problem != "" {
		return false
	}
	var held uint64
	known := true
	for _, g := range s.GPUs {
		for _, p := range g.Processes {
			if !slices.Contains(pids, p.PID) {
				continue
			}
			t.seen[g.UUID], listed = true, true
			if p.Memory == nil {
				known = false
				continue
			}
			held += *p.Memory
		}
	}
	if free, told := freeOf(t.gpus(s)); listed && known && told {
		t.holds, t.freeThen, t.gone = &held, free, time.Time{}
	}
	return listed
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
	if !t.need.Less { // else they may be somewhere else by the operator's will
		f.Weights = t.need.Weights
	}
	if now.State.Alive() && now.Slots > 0 {
		f.Asked, f.Given = t.context(now)
	}
	return f
}

// context is how many tokens of context a server should have, and how many it
// has, for all slots together. It can't have more than the model was made for,
// and llama-server shares them out in steps.
func (t *tenant) context(now *supervisor.Snapshot) (asked, given int) {
	const step = 256
	slots := now.Slots
	if vram.Shared(t.entry.Args) { // then each slot has all of it
		slots = 1
	}
	asked = t.entry.CtxSize
	if t.trained > 0 {
		asked = min(asked, t.trained*slots)
	}
	return asked - step*slots, now.CtxSize * slots
}
