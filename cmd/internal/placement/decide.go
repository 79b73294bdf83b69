package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

// Request is what a workload needs at a start.
type Request struct {
	Selector string   // the GPUs to use, as the configuration has them; "" = all
	UUIDs    []string // of the GPUs that it selects
	NotFound error    // why it selects none; nil = UUIDs are those

	Need      vram.Need
	IgnoreFit bool     // start even if the model does not fit
	Args      []string // llama-server's: they may put the model on one GPU alone
}

// Resident is another workload that may start or run on the same GPUs.
type Resident struct {
	Name      string
	UUIDs     []string // of the GPUs that it uses
	Unclaimed uint64   // bytes of VRAM that are reserved for it, and that its process has not allocated yet
}

// Decision is whether a workload may start.
type Decision struct {
	Wait     string // why it has to wait; "" = it may start
	Reserves bool   // it may start, and its VRAM is reserved until its process holds it
}

// Decide decides whether a workload may start now beside the residents, by a sample of the
// GPUs. What the sample does not show keeps no workload from starting. It is pure.
func Decide(r Request, residents []Resident, s *gpu.Sample) Decision {
	switch {
	case r.Selector == gpu.None:
		return Decision{}
	case r.NotFound != nil && s.Problem != "":
		return Decision{}
	case r.NotFound != nil:
		return Decision{Wait: "waiting for a GPU: " + r.NotFound.Error()}
	}
	if reason := missingGPU(s, r.UUIDs, r.Selector); reason != "" {
		return Decision{Wait: reason}
	}
	// An estimate that may be far too high decides nothing.
	if r.Need.Total() == 0 || r.Need.Less || r.IgnoreFit || s.Problem != "" {
		return Decision{}
	}
	gpus := r.loadedOn(present(s, r.UUIDs))
	free, known := freeOf(gpus)
	if !known {
		return Decision{}
	}
	need := needOn(r.Need, len(gpus))
	reserved, by := reservedByOthers(residents, r.UUIDs)
	if need+reserved > free {
		return Decision{Wait: insufficientVRAM(need, free, reserved, by, gpus)}
	}
	return Decision{Reserves: true}
}

// loadedOn returns those of some GPUs that the model is loaded on. llama-server may be
// told to use a single one; where it counts them in an order of its own, that is taken
// for the one with the most free VRAM.
func (r Request) loadedOn(gpus []gpu.GPU) []gpu.GPU {
	index, single := vram.Single(r.Args)
	if !single || len(gpus) == 0 {
		return gpus
	}
	if r.Selector != "" {
		for _, g := range gpus {
			if index < len(r.UUIDs) && g.UUID == r.UUIDs[index] {
				return []gpu.GPU{g}
			}
		}
	}
	return []gpu.GPU{slices.MaxFunc(gpus, func(a, b gpu.GPU) int {
		if a.MemoryFree == nil || b.MemoryFree == nil {
			return 0
		}
		return cmp.Compare(*a.MemoryFree, *b.MemoryFree)
	})}
}

// needOn is what a model needs on so many GPUs, in bytes: each has buffers of its own.
func needOn(need vram.Need, gpus int) uint64 {
	return need.Total() + need.Compute*uint64(max(gpus-1, 0))
}

// missingGPU says which GPUs have to be found again before a start. Where none were
// named, those that are left will do.
func missingGPU(s *gpu.Sample, uuids []string, selector string) string {
	var lost []string
	for _, uuid := range uuids {
		if g := s.Find(uuid); g != nil && g.Lost {
			lost = append(lost, fmt.Sprintf("GPU %d (%s)", g.Index, g.Name))
		}
	}
	if len(lost) == 0 || selector == "" && len(lost) < len(uuids) {
		return ""
	}
	return "waiting for " + strings.Join(lost, " and ") + ", which the driver can't reach: look for NVRM in dmesg"
}

// insufficientVRAM says why a model does not fit, and what the operator could do.
func insufficientVRAM(need, free, reserved uint64, by string, gpus []gpu.GPU) string {
	message := fmt.Sprintf("waiting for VRAM: needs %s, %s free", gpu.Size(need), gpu.Size(free))
	if reserved > 0 {
		message += fmt.Sprintf(", of which %s are promised to %s", gpu.Size(reserved), by)
	}
	if holders := gpu.MemoryHolders(gpus, nil); holders != "" {
		message += "; held by " + holders
	}
	var total uint64
	for _, g := range gpus {
		if g.MemoryTotal == nil {
			return message
		}
		total += *g.MemoryTotal
	}
	if need > total {
		message += fmt.Sprintf("; there are only %s in all: lower --ctx-size or --n-gpu-layers, or set gpu.fit to ignore", gpu.Size(total))
	}
	return message
}

// reservedByOthers is how much of the free VRAM of some GPUs is reserved for residents, in
// bytes, and for which.
func reservedByOthers(residents []Resident, uuids []string) (sum uint64, by string) {
	var names []string
	for _, r := range residents {
		if overlap(r.UUIDs, uuids) {
			sum += r.Unclaimed
			names = append(names, r.Name)
		}
	}
	return sum, strings.Join(names, ", ")
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(uuid string) bool { return slices.Contains(b, uuid) })
}

// present returns those of some GPUs that are in a sample and not lost.
func present(s *gpu.Sample, uuids []string) []gpu.GPU {
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g gpu.GPU) bool { return g.Lost || !slices.Contains(uuids, g.UUID) })
}

// freeOf is the free VRAM of some GPUs, in bytes. Without a GPU it is unknown.
func freeOf(gpus []gpu.GPU) (bytes uint64, known bool) {
	for _, g := range gpus {
		if g.MemoryFree == nil {
			return 0, false
		}
		bytes += *g.MemoryFree
	}
	return bytes, len(gpus) > 0
}

// enoughReclaimed is how much of the VRAM of a process that has ended has to be free again
// before the next one starts, in percent: the driver keeps some of it.
const enoughReclaimed = 75

// reclaimed is how much of the VRAM that a process held is free again, in bytes, and
// whether that is enough to start the next one. freeWhenHeld was free beside it then.
func reclaimed(held, freeWhenHeld, free uint64) (bytes uint64, enough bool) {
	bytes = min(free-min(free, freeWhenHeld), held)
	return bytes, bytes*100 >= held*enoughReclaimed
}
