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
	Selector string   // the configured GPUs; "" = all
	UUIDs    []string // of the selected GPUs
	NotFound error    // why Selector matches no GPU; nil = UUIDs is set

	Need      vram.Need
	IgnoreFit bool     // start even if the model does not fit
	Args      []string // of llama-server, which may put the model on a single GPU
}

// Resident is another workload that may start or run on the same GPUs.
type Resident struct {
	Name      string
	UUIDs     []string // of the GPUs that it uses
	Unclaimed uint64   // bytes of VRAM that are reserved for it and not allocated by its process yet
}

// Decision is the result of Decide.
type Decision struct {
	Wait     string // why the workload has to wait; "" = it may start
	Reserves bool   // its VRAM is reserved until its process holds it
}

// Decide decides whether a workload may start now beside the residents, given a sample of
// the GPUs. Unknown values never prevent a start. It is pure.
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
	// An estimate that may be far too high does not prevent a start.
	if r.Need.Total() == 0 || r.Need.Overestimated || r.IgnoreFit || s.Problem != "" {
		return Decision{}
	}
	gpus := r.modelGPUs(availableGPUs(s, r.UUIDs))
	free, known := freeVRAM(gpus)
	if !known {
		return Decision{}
	}
	need := r.Need.Split(len(gpus)).Total()
	reserved, by := reservedByOthers(residents, r.UUIDs)
	if need+reserved > free {
		return Decision{Wait: insufficientVRAM(need, free, reserved, by, gpus)}
	}
	return Decision{Reserves: true}
}

// modelGPUs returns those of some GPUs on which the model is loaded. Its arguments may
// select a single one. If llama-server numbers the GPUs in its own order, that one is
// assumed to be the one with the most free VRAM.
func (r Request) modelGPUs(gpus []gpu.GPU) []gpu.GPU {
	index, single := vram.SingleGPU(r.Args)
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

// missingGPU returns a message about the lost GPUs that a start has to wait for; "" = none.
// If the configuration names no GPU, the remaining ones are enough.
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
	return "waiting for " + strings.Join(lost, " and ") + ", which the driver cannot reach; search for NVRM in dmesg"
}

// insufficientVRAM returns why a model does not fit, and what the operator can do.
func insufficientVRAM(need, free, reserved uint64, by string, gpus []gpu.GPU) string {
	message := fmt.Sprintf("waiting for VRAM: needs %s, %s free", gpu.Size(need), gpu.Size(free))
	if reserved > 0 {
		message += fmt.Sprintf(", of which %s are reserved for %s", gpu.Size(reserved), by)
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
		message += fmt.Sprintf("; the GPUs have only %s: lower --ctx-size or --n-gpu-layers, or set gpu.fit to ignore", gpu.Size(total))
	}
	return message
}

// reservedByOthers returns how much of the free VRAM of some GPUs is reserved for
// residents, in bytes, and for which ones. A resident is assumed to be on its GPUs evenly.
func reservedByOthers(residents []Resident, uuids []string) (sum uint64, by string) {
	var names []string
	for _, r := range residents {
		if shareGPU(r.UUIDs, uuids) {
			shared := slices.DeleteFunc(slices.Clone(r.UUIDs), func(uuid string) bool { return !slices.Contains(uuids, uuid) })
			sum += r.Unclaimed / uint64(len(r.UUIDs)) * uint64(len(shared))
			names = append(names, r.Name)
		}
	}
	return sum, strings.Join(names, ", ")
}

func shareGPU(a, b []string) bool {
	return slices.ContainsFunc(a, func(uuid string) bool { return slices.Contains(b, uuid) })
}

// availableGPUs returns those of some GPUs that are in a sample and not lost.
func availableGPUs(s *gpu.Sample, uuids []string) []gpu.GPU {
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g gpu.GPU) bool { return g.Lost || !slices.Contains(uuids, g.UUID) })
}

// freeVRAM returns the free VRAM of some GPUs, in bytes. Without a GPU it is unknown.
func freeVRAM(gpus []gpu.GPU) (bytes uint64, known bool) {
	for _, g := range gpus {
		if g.MemoryFree == nil {
			return 0, false
		}
		bytes += *g.MemoryFree
	}
	return bytes, len(gpus) > 0
}
