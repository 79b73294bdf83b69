package placement

import (
	"context"
	"slices"
	"time"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor"
)

// Server is a workload with its process and calls.
type Server struct {
	Workload *Workload
	Process  Process
	Calls    func() int // in flight
}

// Process is what placement needs of a *supervisor.Server.
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
			s = s.Next() // no sample is skipped, since each error is in only one of them
		}
	}
}

// serverFacts are the facts about a server at the time of a sample.
type serverFacts struct {
	Server
	gpu  gpu.Server
	busy bool // it has calls or is loading
}

// evaluateAll evaluates a sample for each server. The use of a GPU by one of llmsup's
// servers does not count against another one.
func (p *Pool) evaluateAll(s *gpu.Sample, servers []Server) {
	counts := !s.Extra || s.HasXids()
	if counts {
		p.evaluate(s)
	}
	var all []serverFacts
	for _, server := range servers {
		all = append(all, server.collect(s))
	}
	if !counts {
		return
	}
	for i, f := range all {
		for j, other := range all {
			if i != j && shareGPU(other.gpu.GPUs, f.gpu.GPUs) {
				f.gpu.SiblingPIDs = append(f.gpu.SiblingPIDs, other.gpu.PIDs...)
				f.gpu.SiblingsBusy = f.gpu.SiblingsBusy || other.busy
			}
		}
		f.evaluate(s)
	}
}

// evaluate evaluates a sample for a server, and reports to its supervisor whether it is
// degraded and whether its process has to be killed.
func (f serverFacts) evaluate(s *gpu.Sample) {
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

// collect returns the facts about a server at the time of a sample.
func (s Server) collect(sample *gpu.Sample) serverFacts {
	calls := s.Calls()
	now := s.Process.Snapshot()
	pids, gpuOpen := s.Process.Processes()
	return serverFacts{
		Server: s, busy: calls > 0 || now.State == supervisor.Loading,
		gpu: s.Workload.observe(sample, now, pids, gpuOpen, calls),
	}
}

// observe records a sample's values for the server's processes, and returns the facts for
// the verdict. gpuOpen reads /proc, which can take long on a busy machine, so it is called
// without the lock, which status also takes.
func (w *Workload) observe(s *gpu.Sample, now *supervisor.Snapshot, pids []int, gpuOpen func() bool, calls int) gpu.Server {
	w.mu.Lock()
	listed := w.record(s, now, pids)
	facts := w.facts(s, now, calls)
	w.mu.Unlock()
	facts.PIDs = pids
	if facts.PID != 0 && !listed && len(facts.GPUs) > 0 { // otherwise it does not matter
		facts.DeviceOpen = gpuOpen()
	}
	return facts
}

// record records on which GPUs the process is and how much VRAM it holds. It returns
// whether the driver lists the process. The caller holds w.mu.
func (w *Workload) record(s *gpu.Sample, now *supervisor.Snapshot, pids []int) (listed bool) {
	if now.State != supervisor.Starting && now.State != supervisor.Loading {
		w.reserved = false // the process holds its VRAM, or no longer needs it
	}
	if now.PID == 0 || isExited(now) {
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
	if use, known := useOf(w.gpus(s), pids); listed && heldKnown && known {
		w.pids, w.heldBytes, w.whenHeld, w.releaseStarted = pids, &held, use, time.Time{}
	}
	return listed
}

// isExited reports whether the process of a snapshot has ended or is being stopped.
func isExited(now *supervisor.Snapshot) bool {
	select {
	case <-now.Exited:
		return true
	default:
		return false
	}
}

// facts returns the facts about a server for the verdict. The caller holds w.mu.
func (w *Workload) facts(s *gpu.Sample, now *supervisor.Snapshot, calls int) gpu.Server {
	f := gpu.Server{PID: now.PID, Loaded: now.State.Alive() || now.State == supervisor.Draining || now.State == supervisor.Unloading, Calls: calls}
	for _, g := range w.gpus(s) {
		f.GPUs = append(f.GPUs, g.UUID)
	}
	if !w.need.Overestimated { // otherwise the weights may be elsewhere
		f.Weights = w.need.Weights
	}
	if now.State.Alive() && now.Slots > 0 {
		f.RequestedContext, f.ActualContext = w.context(now)
	}
	return f
}

// context returns how many tokens of context a server should have and has, for all slots
// together. The model's trained context limits it, and llama-server rounds it per slot.
// The caller holds w.mu.
func (w *Workload) context(now *supervisor.Snapshot) (requested, actual int) {
	const step = 256
	slots := now.Slots
	if vram.SharedContext(w.entry.Args) { // each slot has the whole context
		slots = 1
	}
	requested = w.entry.CtxSize
	if w.trainedContext > 0 {
		requested = min(requested, w.trainedContext*slots)
	}
	return requested - step*slots, now.CtxSize * slots
}
