package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

// Admit implements supervisor.GPU.
func (t *tenant) Admit(ctx context.Context) string {
	t.estimate()
	// A driver that hangs is told of after some seconds. One that was left alone is
	// asked again: whoever starts a server has ended the rest.
	for s := t.house.monitor.Sample(); s.At.IsZero() || s.Rests; s = s.Next() {
		select {
		case <-ctx.Done():
			return ""
		case <-s.Changed:
		}
	}
	t.house.mu.Lock()
	defer t.house.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.admitted = false
	if t.wants == gpu.None {
		return ""
	}
	s := t.house.monitor.Sample()
	t.lost = map[string]bool{}
	for _, g := range s.GPUs {
		t.lost[g.UUID] = g.Lost
	}
	uuids, err := t.uuids(s)
	if err != nil {
		if s.Problem != "" {
			return "" // nobody can tell
		}
		return "waiting for a GPU: " + err.Error()
	}
	if words := missing(s, uuids, t.wants); words != "" {
		return words
	}
	// Of an estimate that may be far too high, nothing is made.
	if t.need.Total() == 0 || t.need.Less || t.fit == config.FitIgnore || s.Problem != "" {
		return ""
	}
	gpus := t.loads(present(s, uuids))
	free, known := freeOf(gpus)
	if !known {
		return ""
	}
	need := needOn(t.need, len(gpus))
	promised, to := t.house.promised(t, uuids, s)
	if need+promised > free {
		return noRoom(need, free, promised, to, gpus)
	}
	t.admitted = true
	return ""
}

// loads returns those of some GPUs that the model goes to. Where llama-server
// was told to use one alone, and counts them in an order of its own, that is
// taken for the one with the most room.
func (t *tenant) loads(gpus []gpu.GPU) []gpu.GPU {
	index, single := vram.Single(t.entry.Args)
	if !single || len(gpus) == 0 {
		return gpus
	}
	if t.wants != "" {
		for _, g := range gpus {
			if index < len(t.means) && g.UUID == t.means[index] {
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

// needOn is what a model needs of so many GPUs: each has buffers of its own.
func needOn(need vram.Need, gpus int) uint64 {
	return need.Total() + need.Compute*uint64(max(gpus-1, 0))
}

// missing says which GPUs have to be found again before a start. Where none were
// named, those that are left will do.
func missing(s *gpu.Sample, uuids []string, wants string) string {
	var lost []string
	for _, uuid := range uuids {
		if g := s.Find(uuid); g != nil && g.Lost {
			lost = append(lost, fmt.Sprintf("GPU %d (%s)", g.Index, g.Name))
		}
	}
	if len(lost) == 0 || wants == "" && len(lost) < len(uuids) {
		return ""
	}
	return "waiting for " + strings.Join(lost, " and ") + ", which the driver can't reach: look for NVRM in dmesg"
}

// noRoom says why a model does not fit, and what could be done.
func noRoom(need, free, promised uint64, to string, gpus []gpu.GPU) string {
	words := fmt.Sprintf("waiting for VRAM: needs %s, %s free", gpu.Size(need), gpu.Size(free))
	if promised > 0 {
		words += fmt.Sprintf(", of which %s are promised to %s", gpu.Size(promised), to)
	}
	if holders := gpu.Holders(gpus, nil); holders != "" {
		words += "; held by " + holders
	}
	var total uint64
	for _, g := range gpus {
		if g.MemoryTotal == nil {
			return words
		}
		total += *g.MemoryTotal
	}
	if need > total {
		words += fmt.Sprintf("; there are only %s in all: lower --ctx-size or --n-gpu-layers, or set gpu.fit to ignore", gpu.Size(total))
	}
	return words
}

// promised is how much of what is free on some GPUs others have been admitted
// to, and have not taken yet, in bytes, and who they are. The caller holds the
// house.
func (h *house) promised(but *tenant, uuids []string, s *gpu.Sample) (sum uint64, to string) {
	for _, other := range h.tenants {
		if other == but {
			continue
		}
		other.mu.Lock()
		theirs, _ := other.uuids(s)
		if other.admitted && slices.ContainsFunc(theirs, func(uuid string) bool { return slices.Contains(uuids, uuid) }) {
			taken := uint64(0)
			if other.holds != nil {
				taken = *other.holds
			}
			total := needOn(other.need, len(theirs))
			sum += total - min(taken, total)
			to = strings.TrimPrefix(to+", "+other.name, ", ")
		}
		other.mu.Unlock()
	}
	return sum, to
}
