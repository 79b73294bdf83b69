package fit

import (
	"fmt"
	"slices"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/gpu"
)

// Box is the GPUs that a model could be loaded on.
type Box struct {
	GPUs    []GPU
	Problem string // why there are none
}

// GPU is one of them.
type GPU struct {
	Index     int
	Name      string
	Total     uint64 // bytes
	Usable    uint64 // bytes that a model may need there, once llmsup's other models have left
	UsableNow uint64
	Empty     uint64 // bytes that are free when no process uses it
}

// BoxOf returns the GPUs that a selection names; "" = all. own are the processes of llmsup's models,
// on the host.
func BoxOf(s *gpu.Sample, selection string, own []int) Box {
	if selection == gpu.None {
		return Box{Problem: "the GPU is disabled (gpu: none)"}
	}
	if s.Problem != "" {
		return Box{Problem: s.Problem}
	}
	uuids, err := s.Select(selection)
	if err != nil {
		return Box{Problem: err.Error()}
	}
	var b Box
	for _, g := range s.GPUs {
		if !slices.Contains(uuids, g.UUID) {
			continue
		}
		usable, known := placement.Usable(g, own)
		switch {
		case g.Lost:
			b.Problem = fmt.Sprintf("the driver cannot reach GPU %d: search dmesg for NVRM", g.Index)
		case !known || g.MemoryTotal == nil:
			b.Problem = fmt.Sprintf("the driver does not report the memory of GPU %d", g.Index)
		default:
			now, _ := placement.Usable(g, nil)
			b.GPUs = append(b.GPUs, GPU{Index: g.Index, Name: g.Name, Total: *g.MemoryTotal, Usable: usable, UsableNow: now, Empty: placement.EmptyVRAM(g)})
		}
	}
	if len(b.GPUs) > 0 {
		b.Problem = ""
	} else if b.Problem == "" {
		b.Problem = "this machine has no NVIDIA GPU"
	}
	return b
}

// Imagined returns a box with empty GPUs of these sizes, in bytes.
func Imagined(sizes []uint64) (b Box) {
	for i, size := range sizes {
		b.GPUs = append(b.GPUs, GPU{Index: i, Name: "imagined", Total: size, Usable: size, UsableNow: size, Empty: size})
	}
	return b
}

// Planned returns what has to be free on the GPU for a need, in bytes.
func (g GPU) Planned(need uint64) uint64 { return placement.Planned(need, g.Empty) }

// describe returns the GPUs for an answer.
func (b Box) describe() []control.FitGPU {
	list := []control.FitGPU{}
	for _, g := range b.GPUs {
		list = append(list, control.FitGPU{Index: g.Index, Name: g.Name, TotalBytes: &g.Total, UsableBytes: &g.Usable, UsableNowBytes: &g.UsableNow})
	}
	return list
}
