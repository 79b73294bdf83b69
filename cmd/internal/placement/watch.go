package placement

import (
	"context"
	"slices"
	"time"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor"
)

// Server is a workload together with what runs it.
type Server struct {
	Workload *Workload
	Process  Process
	Calls    func() int // in flight
}

// Process is what a *supervisor.Server does for placement.
type Process interface {
	Snapshot() *supervisor.Snapshot
	// Processes returns the PIDs, and a function that reads whether one of them has a
	// GPU's device open.
	Processes() (pids []int, gpuOpen func() bool)
	SetHealth(reason string)
	Kill(pid int, class supervisor.Class, cause string)
}

// Watch evaluates each sample for the GPUs and for each server, until ctx ends.
func (p *Pool) Watch(ctx context.Context, servers func() []Server) {
	s := p.monitor.Sample()
	for {
		if !s.At.IsZero() {
			p.evaluateAll(s, servers())
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Changed:
			s = s.Next() // none is missed: each error is reported in one of them
		}
	}
}

// workloadFacts is what is known of a server at the time of a sample.
type workloadFacts struct {
	Server
	gpu  gpu.Server
	busy bool // it has calls, or is loading
}

// evaluateAll reports to the servers what a sample means for them. What one server of
// llmsup does on a GPU does not count against another one.
func (p *Pool) evaluateAll(s *gpu.Sample, servers []Server) {
	counts := !s.Extra || s.HasXids()
	if counts {
		p.evaluate(s)
	}
	var all []workloadFacts
	for _, server := range servers {
		all = append(all, server.factsAt(s))
	}
	if !counts {
		return
	}
	for i, f := range all {
		for j, other := range all {
			if i != j && overlap(other.gpu.GPUs, f.gpu.GPUs) {
				f.gpu.SiblingPIDs = append(f.gpu.SiblingPIDs, other.gpu.PIDs...)
				f.gpu.SiblingsBusy = f.gpu.SiblingsBusy || other.busy
			}
		}
		f.evaluate(s)
	}
}

// evaluate reports to a server what a sample means for it: that it is degraded, that it
// no longer is, or that its process has to end.
func (f workloadFacts) evaluate(s *gpu.Sample) {
	w := f.Workload
	w.mu.Lock()
	var v gpu.Verdict
	w.history, v = w.policy.Next(w.history, s, f.gpu)
	w.conditions = v.Conditions
	w.mu.Unlock()

	f.Process.SetHealth(v.Message())
	if v.Fatal != nil {
		f.Process.Kill(f.gpu.PID, supervisor.GPUFailed, v.Fatal.Message)
	}
}

// factsAt collects what is known of a server at the time of a sample.
func (s Server) factsAt(sample *gpu.Sample) workloadFacts {
	calls := s.Calls()
	now := s.Process.Snapshot()
	pids, gpuOpen := s.Process.Processes()
	return workloadFacts{
		Server: s, busy: calls > 0 || now.State == supervisor.Loading,
		gpu: s.Workload.observe(sample, now, pids, gpuOpen, calls),
	}
}

// observe records what a sample shows of the server's processes, and returns what the
// verdict needs to know of it. gpuOpen reads /proc, which can take long on a busy
// machine: it is called without the lock, which status takes too.
func (w *Workload) observe(s *gpu.Sample, now *supervisor.Snapshot, pids []int, gpuOpen func() bool, calls int) gpu.Server {
	w.mu.Lock()
	listed := w.record(s, now, pids)
	facts := w.facts(s, now, calls)
	w.mu.Unlock()
	facts.PIDs = pids
	if facts.PID != 0 && !listed && len(facts.GPUs) > 0 { // only then it matters
		facts.DeviceOpen = gpuOpen()
	}
	return facts
}

// record records where the process is, and what it holds there. It returns whether the
// driver lists it. The caller holds w.mu.
func (w *Workload) record(s *gpu.Sample, now *supervisor.Snapshot, pids []int) (listed bool) {
	if now.State != supervisor.Starting && now.State != supervisor.Loading {
		w.reserved = false // it holds what it needs, or needs it no longer
	}
	if now.PID == 0 || ended(now) {
		return false
	}
	if now.PID != w.pid {
		w.pid, w.seenOn, w.lostAtStart, w.heldBytes = now.PID, map[string]bool{}, w.lostAtAdmit, nil
	}
	if s.Problem != "" {
		return false
	}
	var held uint64
	heldKnown := true
	for _, g := range s.GPUs {
		for _, p := range g.Processes {
			if !slices.Contains(pids, p.PID) {
				continue
			}
			w.seenOn[g.UUID], listed = true, true
			if p.Memory == nil {
				heldKnown = false
				continue
			}
			held += *p.Memory
		}
	}
	if free, known := freeOf(w.gpus(s)); listed && heldKnown && known {
		w.heldBytes, w.freeWhenHeld, w.releaseStarted = &held, free, time.Time{}
	}
	return listed
}

// ended says whether the process of a snapshot has ended or is being ended.
func ended(now *supervisor.Snapshot) bool {
	select {
	case <-now.Exited:
		return true
	default:
		return false
	}
}

// facts collects what the verdict needs to know of a server. The caller holds w.mu.
func (w *Workload) facts(s *gpu.Sample, now *supervisor.Snapshot, calls int) gpu.Server {
	f := gpu.Server{PID: now.PID, Loaded: now.State.Alive() || now.State == supervisor.Draining, Calls: calls}
	for _, g := range w.gpus(s) {
		f.GPUs = append(f.GPUs, g.UUID)
	}
	if !w.need.Less { // else the operator may have put them somewhere else
		f.Weights = w.need.Weights
	}
	if now.State.Alive() && now.Slots > 0 {
		f.RequestedContext, f.ActualContext = w.context(now)
	}
	return f
}

// context is how many tokens of context a server should have, and how many it has, for
// all slots together. It can't have more than the model was made for, and llama-server
// divides them in steps. The caller holds w.mu.
func (w *Workload) context(now *supervisor.Snapshot) (asked, given int) {
	const step = 256
	slots := now.Slots
	if vram.Shared(w.entry.Args) { // then each slot has all of it
		slots = 1
	}
	asked = w.entry.CtxSize
	if w.trainedContext > 0 {
		asked = min(asked, w.trainedContext*slots)
	}
	return asked - step*slots, now.CtxSize * slots
}
