package daemon

import (
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
)

// gpuHealth is what the contract calls a GPU, and why.
type gpuHealth struct{ health, reason string }

// What a GPU's health may be.
const (
	gpuOK       = "ok"
	gpuDegraded = "degraded"
	gpuLost     = "lost"
	gpuUnknown  = "unknown"
)

// gpuHealth puts together what is wrong with a GPU, and what the servers have
// against it.
func (d *Daemon) gpuHealth(s *gpu.Sample, g gpu.GPU) gpuHealth {
	if g.Lost {
		return gpuHealth{gpuLost, "the driver can't reach it any more: look for NVRM in dmesg"}
	}
	if s.Problem != "" {
		return gpuHealth{gpuUnknown, s.Problem}
	}
	var words []string
	hear := func(findings []gpu.Finding) {
		for _, f := range findings {
			if line := string(f.Reason) + ": " + f.Words; f.UUID == g.UUID && !slices.Contains(words, line) {
				words = append(words, line)
			}
		}
	}
	hear(d.house.found())
	for _, served := range d.servers() {
		hear(served.tenant.found())
	}
	if words != nil {
		return gpuHealth{gpuDegraded, strings.Join(words, "; ")}
	}
	return gpuHealth{gpuOK, ""}
}

// found returns what is wrong with GPUs themselves.
func (h *house) found() []gpu.Finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.findings
}

// found returns what the tenant has against its GPUs.
func (t *tenant) found() []gpu.Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.findings
}

func (d *Daemon) gpuStatus() []control.GPU {
	s := d.monitor.Sample()
	list := []control.GPU{}
	for _, g := range s.GPUs {
		h := d.gpuHealth(s, g)
		list = append(list, control.GPU{
			Index: g.Index, UUID: g.UUID, Name: g.Name,
			MemoryTotalBytes: g.MemoryTotal, MemoryUsedBytes: g.MemoryUsed, MemoryFreeBytes: g.MemoryFree,
			UtilizationPercent: g.Utilization, MemoryPercent: g.MemoryUtilization, TemperatureCelsius: g.Temperature,
			PowerWatts: g.Power, PowerLimitWatts: g.PowerLimit, Slowdown: (*uint64)(g.Slowdown),
			ECCUncorrected: g.ECCUncorrected, PCIeReplays: g.PCIeReplays, Processes: gpuProcesses(g),
			Health: h.health, Reason: h.reason,
		})
	}
	return list
}

func gpuProcesses(g gpu.GPU) []control.GPUProcess {
	if !g.ProcessesKnown {
		return nil
	}
	list := []control.GPUProcess{}
	for _, p := range g.Processes {
		list = append(list, control.GPUProcess{PID: p.PID, Program: p.Program, MemoryBytes: p.Memory})
	}
	return list
}

// vramStatus is what the server's model needs, and what its process holds now;
// nil where it needs none, there is no GPU, or that can't be told.
func (t *tenant) vramStatus(pid int) *control.VRAM {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wants == gpu.None || t.need.Total() == 0 || len(t.house.monitor.Sample().GPUs) == 0 {
		return nil
	}
	v := &control.VRAM{
		NeedBytes: t.need.Total(), WeightsBytes: t.need.Weights, KVBytes: t.need.KV, ComputeBytes: t.need.Compute,
	}
	if pid != 0 && pid == t.pid {
		v.HeldBytes = t.holds
	}
	return v
}
