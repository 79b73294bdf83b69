package placement

import "github.com/llmsup/llmsup/gpu"

// Margin is added to the need of a model that is loaded on demand on each GPU, in bytes: what is
// measured once a second misses the peaks.
const Margin = 128 << 20

// WithMargin returns a need on a GPU with the margin, as Planned does.
func WithMargin(need uint64, g gpu.GPU) uint64 {
	if g.MemoryFree == nil {
		return need + Margin
	}
	return Planned(need, EmptyVRAM(g))
}

// Planned returns a need on a GPU with the margin, but not more than empty, what is free when no
// process uses the GPU: what fits without the margin can be loaded there.
func Planned(need, empty uint64) uint64 {
	if need > empty {
		return need + Margin
	}
	return min(need+Margin, empty)
}

// Usable returns the largest need that has room on a GPU with its margin once some processes have
// left it, in bytes: llmsup's own, or none. known is false if the driver does not report what is
// free.
func Usable(g gpu.GPU, leaving []int) (bytes uint64, known bool) {
	if g.MemoryFree == nil {
		return 0, false
	}
	room := *g.MemoryFree + heldOn(g, leaving)
	if room == EmptyVRAM(g) {
		return room, true
	}
	return room - min(Margin, room), true
}

// EmptyVRAM returns what of a GPU is free when no process uses it, in bytes. The driver reports what
// is free.
func EmptyVRAM(g gpu.GPU) uint64 {
	empty := *g.MemoryFree
	for _, p := range g.Processes {
		if p.Memory != nil {
			empty += *p.Memory
		}
	}
	return empty
}
