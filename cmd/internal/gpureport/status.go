package gpureport

import (
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/gpu"
)

// Options are what a Reporter reads.
type Options struct {
	Monitor *gpu.Monitor
	Pool    *placement.Pool
	Servers func() []Server // that llmsup runs now
}

// Server is a server with its processes, and its use of the GPUs.
type Server struct {
	placement.Owner
	Workload *placement.Workload
}

// Reporter reports the GPUs. It is a prometheus.Collector.
type Reporter struct{ o Options }

// New returns a Reporter.
func New(o Options) *Reporter { return &Reporter{o} }

// condition is the health of a GPU as status shows it, and its reason.
type condition struct{ health, reason string }

// The values of a GPU's health.
const (
	ok       = "ok"
	degraded = "degraded"
	lost     = "lost"
	unknown  = "unknown"
)

// health combines the conditions of a GPU itself and those of the servers on it.
func (r *Reporter) health(s *gpu.Sample, g gpu.GPU) condition {
	if g.Lost {
		return condition{lost, "the driver can no longer reach it; search for NVRM in dmesg"}
	}
	if s.Problem != "" {
		return condition{unknown, s.Problem}
	}
	var lines []string
	add := func(conditions []gpu.Condition) {
		for _, f := range conditions {
			if line := string(f.Reason) + ": " + f.Message; f.UUID == g.UUID && !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	add(r.o.Pool.Conditions())
	for _, served := range r.o.Servers() {
		add(served.Workload.Conditions())
	}
	if lines != nil {
		return condition{degraded, strings.Join(lines, "; ")}
	}
	return condition{ok, ""}
}

// Status returns the GPUs of the last sample.
func (r *Reporter) Status() []control.GPU {
	s, owners := r.o.Monitor.Sample(), r.owners()
	list := []control.GPU{}
	for _, g := range s.GPUs {
		h := r.health(s, g)
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

// owners returns the servers with their processes.
func (r *Reporter) owners() (owners []placement.Owner) {
	for _, s := range r.o.Servers() {
		owners = append(owners, s.Owner)
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

// VRAM returns the need of a server's model, and what its process holds now; nil if it
// needs none, there is no GPU, or the need is unknown.
func VRAM(w *placement.Workload, pid int) *control.VRAM {
	need, held, ok := w.Usage(pid)
	if !ok {
		return nil
	}
	return &control.VRAM{
		NeedBytes: need.Total(), WeightsBytes: need.Weights, KVBytes: need.KV, ComputeBytes: need.Compute, HeldBytes: held, Uncertain: need.UncertainBecause,
	}
}
