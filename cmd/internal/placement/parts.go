package placement

import (
	"slices"

	"github.com/llmsup/llmsup/gpu"
)

// Holder is what holds a part of a GPU's VRAM.
type Holder string

// The holders.
const (
	HeldByServer  Holder = "server"
	HeldByForeign Holder = "foreign" // processes that are not llmsup's
	// HeldByUnlisted is VRAM that is in use, though the driver lists no process with it: it has
	// ended and its VRAM is not released yet, or the driver does not report how much it holds, or
	// the driver itself uses it.
	HeldByUnlisted Holder = "unlisted"
	Free           Holder = "free"
)

// Part is a part of a GPU's VRAM.
type Part struct {
	Holder Holder
	Server string // of HeldByServer
	Bytes  uint64
}

// Owner is a server, and the processes that it consists of.
type Owner struct {
	Server string
	PIDs   []int
}

// Parts divides the VRAM of a GPU among the servers, in their order, all foreign processes,
// what is unlisted, and what is free. The parts are not empty, and add up to the GPU's total;
// nil = the driver does not report the total, or what is free.
func Parts(g gpu.GPU, owners []Owner) []Part {
	if g.MemoryTotal == nil || g.MemoryFree == nil {
		return nil
	}
	left := *g.MemoryTotal // that no part has: a driver may count shared memory once for each process
	var parts []Part
	add := func(holder Holder, server string, bytes uint64) {
		bytes = min(bytes, left)
		if left -= bytes; bytes > 0 {
			parts = append(parts, Part{holder, server, bytes})
		}
	}
	foreign := uint64(0)
	held := make([]uint64, len(owners))
	for _, p := range g.Processes {
		if p.Memory == nil {
			continue
		}
		if i := ownerOf(p.PID, owners); i >= 0 {
			held[i] += *p.Memory
		} else {
			foreign += *p.Memory
		}
	}
	for i, o := range owners {
		add(HeldByServer, o.Server, held[i])
	}
	add(HeldByForeign, "", foreign)
	free := min(*g.MemoryFree, left)
	add(HeldByUnlisted, "", left-free)
	add(Free, "", free)
	return parts
}

// ServerOf returns the server that a process belongs to; "" = none.
func ServerOf(pid int, owners []Owner) string {
	if i := ownerOf(pid, owners); i >= 0 {
		return owners[i].Server
	}
	return ""
}

func ownerOf(pid int, owners []Owner) int {
	return slices.IndexFunc(owners, func(o Owner) bool { return slices.Contains(o.PIDs, pid) })
}
