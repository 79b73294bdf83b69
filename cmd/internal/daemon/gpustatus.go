package daemon

import (
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/gpu"
)

// gpuHealth is the health of a GPU as status shows it, and its reason.
type gpuHealth struct{ health, reason string }

// The values of a GPU's health.
const (
	gpuOK       = "ok"
	gpuDegraded = "degraded"
	gpuLost     = "lost"
	gpuUnknown  = "unknown"
)

// gpuHealth combines the conditions of a GPU itself and those of the servers on it.
func (d *Daemon) gpuHealth(s *gpu.Sample, g gpu.GPU) gpuHealth {
	if g.Lost {
		return gpuHealth{gpuLost, "the driver can no longer reach it; search for NVRM in dmesg"}
	}
	if s.Problem != "" {
		return gpuHealth{gpuUnknown, s.Problem}
	}
	var lines []string
	add := func(conditions []gpu.Condition) {
		for _, f := range conditions {
			if line := string(f.Reason) + ": " + f.Message; f.UUID == g.UUID && !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	add(d.pool.Conditions())
	for _, served := range d.servers() {
		add(served.workload.Conditions())
	}
	if lines != nil {
		return gpuHealth{gpuDegraded, strings.Join(lines, "; ")}
	}
	return gpuHealth{gpuOK, ""}
}

func (d *Daemon) gpuStatus() []control.GPU {
	s, owners := d.monitor.Sample(), d.processOwners()
	list := []control.GPU{}
	for _, g := range s.GPUs {
		h := d.gpuHealth(s, g)
		list = append(list, control.GPU{
			Index: g.Index, UUID: g.UUID, Name: g.Name,
			MemoryTotalBytes: g.MemoryTotal, MemoryUsedBytes: g.MemoryUsed, MemoryFreeBytes: g.MemoryFree,
			UtilizationPercent: g.Utilization, MemoryPercent: g.MemoryUtilization, TemperatureCelsius: g.Temperature,
			PowerWatts: g.Power, PowerLimitWatts: g.PowerLimit, Slowdown: (*uint64)(g.Slowdown),
			ECCUncorrected: g.ECCUncorrected, PCIeReplays: g.PCIeReplays, Processes: gpuProcesses(g, owners), MemoryParts: memoryParts(g, owners),
			Health: h.health, Reason: h.reason,
		})
	}
	return list
}

// processOwners returns the servers with their processes.
func (d *Daemon) processOwners() (owners []placement.Owner) {
	for _, s := range d.servers() {
		pids, _ := s.server.Processes()
		owners = append(owners, placement.Owner{Server: s.name, PIDs: pids})
	}
	return owners
}

func memoryParts(g gpu.GPU, owners []placement.Owner) (list []control.MemoryPart) {
	for _, p := range placement.Parts(g, owners) {
		list = append(list, control.MemoryPart{Kind: string(p.Holder), Server: p.Server, Bytes: p.Bytes})
	}
	return list
}

func gpuProcesses(g gpu.GPU, owners []placement.Owner) []control.GPUProcess {
	if !g.ProcessesKnown {
		return nil
	}
	list := []control.GPUProcess{}
	for _, p := range g.Processes {
		list = append(list, control.GPUProcess{PID: p.PID, Program: p.Program, MemoryBytes: p.Memory, Server: placement.ServerOf(p.PID, owners)})
	}
	return list
}

// vramStatus returns the need of a server's model, and what its process holds now; nil if it
// needs none, there is no GPU, or the need is unknown.
func vramStatus(w *placement.Workload, pid int) *control.VRAM {
	need, held, ok := w.Usage(pid)
	if !ok {
		return nil
	}
	return &control.VRAM{
		NeedBytes: need.Total(), WeightsBytes: need.Weights, KVBytes: need.KV, ComputeBytes: need.Compute, HeldBytes: held,
	}
}
