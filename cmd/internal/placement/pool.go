package placement

import (
	"slices"
	"sync"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
)

// Pool is the GPUs and the workloads that share them.
type Pool struct {
	monitor *gpu.Monitor
	need    func(server string, configured uint64) uint64
	log     zerolog.Logger

	mu         sync.Mutex // held while a start is decided, so that two starts do not reserve the same VRAM; lock it before a Workload's
	workloads  []*Workload
	policy     gpu.Policy
	history    gpu.History
	conditions []gpu.Condition // of the GPUs themselves
}

// NewPool returns a pool without workloads. need returns what a server with a configured need
// of VRAM needs as far as it has been measured, in bytes.
func NewPool(monitor *gpu.Monitor, need func(server string, configured uint64) uint64, log zerolog.Logger) *Pool {
	return &Pool{monitor: monitor, need: need, log: log}
}

// ApplyConfig sets the workloads and the thresholds.
func (p *Pool) ApplyConfig(workloads []*Workload, c config.GPU) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workloads, p.policy = workloads, policyOf(c)
}

// Conditions returns the conditions of the GPUs themselves.
func (p *Pool) Conditions() []gpu.Condition {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conditions
}

// evaluate determines the conditions of the GPUs themselves, independent of workloads.
func (p *Pool) evaluate(s *gpu.Sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := gpu.Server{}
	for _, g := range s.GPUs {
		all.GPUs = append(all.GPUs, g.UUID)
	}
	var v gpu.Verdict
	p.history, v = p.policy.Next(p.history, s, all)
	// Memory errors count from a server's start, and there is no server here.
	p.conditions = slices.DeleteFunc(v.Conditions, func(f gpu.Condition) bool { return f.Reason == gpu.ECC })
}

// residents returns the other workloads that have VRAM reserved. The caller holds p.mu.
func (p *Pool) residents(except *Workload, s *gpu.Sample) (list []Resident) {
	for _, w := range p.workloads {
		if w == except {
			continue
		}
		if r, reserved := w.resident(s); reserved {
			list = append(list, r)
		}
	}
	return list
}

func policyOf(c config.GPU) gpu.Policy {
	return gpu.Policy{
		BadSamples: c.BadSamples, GoodSamples: c.GoodSamples, VRAMFloor: uint64(c.VRAMFloor),
		BusyPercent: c.BusyPercent, BusyFor: c.BusyFor,
	}
}
