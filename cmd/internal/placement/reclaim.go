package placement

import (
	"github.com/llmsup/llmsup/gpu"
)

// vramUse is the use of some GPUs in a sample, in bytes.
type vramUse struct {
	free uint64
	// unlisted is used, but held by no process in the driver's list: a process is no longer in
	// the list when it has ended, and its VRAM is free some time later. nil = unknown.
	unlisted *uint64
	held     uint64 // by the processes in question
}

// useOf returns the use of some GPUs, of which some processes may hold a part. known is false
// if the driver does not report what is free.
func useOf(gpus []gpu.GPU, pids []int) (use vramUse, known bool) {
	if use.free, known = freeVRAM(gpus); !known {
		return use, false
	}
	unlisted := uint64(0)
	for _, g := range gpus {
		use.held += heldOn(g, pids)
		sum := uint64(0)
		for _, p := range g.Processes {
			if p.Memory == nil {
				return use, true
			}
			sum += *p.Memory
		}
		if !g.ProcessesKnown || g.Inconsistent || g.MemoryUsed == nil {
			return use, true
		}
		unlisted += *g.MemoryUsed - min(sum, *g.MemoryUsed)
	}
	use.unlisted = &unlisted
	return use, true
}

// reclaimThreshold is the share of an ended process's VRAM that has to be free again before
// the next process starts, in percent. The driver keeps some of it.
const reclaimThreshold = 75

// reclaimed returns how much of the VRAM that a process held is free again, in bytes, and
// whether that is enough to start the next process. before is the use while it ran. That more
// is free than before shows it, and so does that no more is unlisted than before: other
// processes may have taken what it had.
func reclaimed(held uint64, before, now vramUse) (bytes uint64, enough bool) {
	bytes = min(now.free-min(now.free, before.free), held)
	if before.unlisted != nil && now.unlisted != nil {
		left := now.held + *now.unlisted - min(*now.unlisted, *before.unlisted)
		bytes = max(bytes, held-min(left, held))
	}
	return bytes, bytes*100 >= held*reclaimThreshold
}
