package gpu

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/prometheus/procfs"
)

// Process is a process that holds memory of a GPU.
type Process struct {
	PID     int     // on the host, not in a container
	Program string  // as ps shows it; "" = not visible
	Memory  *uint64 // bytes
}

// memoryOf adds up what some processes hold of a GPU. known is false if the driver lists
// one of them without its memory, or has no list.
func (g *GPU) memoryOf(pids []int) (held uint64, listed, known bool) {
	known = g.ProcessesKnown
	for _, p := range g.Processes {
		if !slices.Contains(pids, p.PID) {
			continue
		}
		listed = true
		if p.Memory == nil {
			known = false
			continue
		}
		held += *p.Memory
	}
	return held, listed, known
}

// merge joins lists of processes. A process that computes and draws is in two of them,
// each time with all the memory that it holds.
func merge(lists ...[]Process) []Process {
	all := []Process{}
	for _, list := range lists {
		for _, p := range list {
			i := slices.IndexFunc(all, func(q Process) bool { return q.PID == p.PID })
			switch {
			case i < 0:
				all = append(all, p)
			case p.Memory != nil && (all[i].Memory == nil || *all[i].Memory < *p.Memory):
				all[i] = p
			}
		}
	}
	slices.SortFunc(all, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return all
}

// programOf returns the name of a process's program, as ps shows it; "" where the process
// is not visible, as from within a container.
func programOf(pid int) string {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return ""
	}
	name, err := p.Comm()
	if err != nil {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// inBrackets returns MemoryHolders in brackets; "" where the driver lists none.
func inBrackets(gpus []GPU, ours []int) string {
	if holders := MemoryHolders(gpus, ours); holders != "" {
		return " (" + holders + ")"
	}
	return ""
}

// MemoryHolders names the processes, except llmsup's own, that hold the most memory of
// some GPUs: "pid 4211 python 16.1 GiB, pid 5 Xorg 180 MiB".
func MemoryHolders(gpus []GPU, ours []int) string {
	const maxNamed = 3
	sums, programs := map[int]uint64{}, map[int]string{}
	for _, g := range gpus {
		for _, p := range g.Processes {
			if p.Memory != nil && !slices.Contains(ours, p.PID) {
				sums[p.PID] += *p.Memory
				programs[p.PID] = p.Program
			}
		}
	}
	pids := slices.SortedFunc(maps.Keys(sums), func(a, b int) int {
		return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b))
	})
	var holders []string
	for _, pid := range pids[:min(len(pids), maxNamed)] {
		holders = append(holders, strings.Join(strings.Fields(fmt.Sprintf("pid %d %s %s", pid, programs[pid], Size(sums[pid]))), " "))
	}
	if more := len(pids) - maxNamed; more > 0 {
		holders = append(holders, fmt.Sprintf("%d more", more))
	}
	return strings.Join(holders, ", ")
}
