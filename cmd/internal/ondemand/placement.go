package ondemand

import (
	"fmt"
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

const (
	// singleGPU is the key of what a model held alone on one GPU, whichever that was.
	singleGPU = "one GPU"
	// strayVRAM is how much VRAM a process may hold on GPUs that it should not see.
	strayVRAM = 256 << 20
	// placeAnew is how long a start waits for the GPU that was chosen for it, before the model
	// is planned again.
	placeAnew = 15 * time.Second
)

// isPlaced reports whether it is decided where the model is: it has a process, or will have one.
func (m *model) isPlaced() bool { return m.loading || m.now.State != supervisor.Unloaded }

// current returns where the process is, or where the next one will be. It has no shares if
// that is on a GPU that is lost.
func (m *model) current() placement.Placement {
	for _, p := range m.placements {
		if p.Current {
			return p
		}
	}
	return placement.Placement{}
}

// planned returns current, or where a model without a process can be: on one GPU, if possible.
func (m *model) planned() placement.Placement {
	if m.now.PID == 0 && len(m.placements) > 0 {
		return m.placements[0]
	}
	return m.current()
}

// key returns what the VRAM that was measured of a share is stored under: a model needs more
// on one GPU than on each of two.
func key(p placement.Placement, share placement.Share) string {
	if p.Single {
		return singleGPU
	}
	return share.UUID
}

// measure records the most that the processes held in readings up to a time, and reports whether
// that says more than before. A process that has answered a call holds all that it needs: others
// than llama-server allocate VRAM for their first call.
func (m *model) measure(at time.Time) (more bool) {
	p := m.current()
	answered := !m.answered.IsZero() && at.After(m.answered)
	for _, share := range p.Shares {
		k := key(p, share)
		if share.Held > m.bytes[k] {
			m.bytes[k], more = share.Held, true
		}
		if answered && share.Held > 0 && !m.whole[k] {
			m.whole[k], more = true, true
		}
	}
	return more
}

// need returns what the model is planned with on a GPU of a placement, in bytes.
func (m *model) need(p placement.Placement, share placement.Share) uint64 {
	return max(share.Need, m.bytes[key(p, share)])
}

// needs returns the need of the model on each GPU of a placement, and what of it its process
// has not allocated yet.
func (m *model) needs(p placement.Placement, sample *gpu.Sample) (needs, unclaimed scheduler.Placement) {
	for _, share := range p.Shares {
		i := indexOf(sample, share.UUID)
		if i < 0 {
			continue
		}
		g := sample.GPUs[i]
		need := placement.WithMargin(m.need(p, share), g)
		for range m.raises { // larger than what was not enough, and no larger than the GPU
			if g.MemoryTotal != nil {
				need = max(need, min(need+need/4, *g.MemoryTotal))
			}
		}
		needs = append(needs, scheduler.Share{GPU: i, Bytes: max(need, share.Held)})
		unclaimed = append(unclaimed, scheduler.Share{GPU: i, Bytes: need - min(share.Held, need)})
	}
	return needs, unclaimed
}

// indexOf returns the index of a GPU in a sample; -1 = it is not there.
func indexOf(sample *gpu.Sample, uuid string) int {
	return slices.IndexFunc(sample.GPUs, func(g gpu.GPU) bool { return g.UUID == uuid })
}

// held returns what the process holds, which its end frees: that may be less than its need.
// If the driver does not report it, that is the need.
func (m *model) held(sample *gpu.Sample, needs scheduler.Placement) (held scheduler.Placement) {
	for _, share := range m.current().Shares {
		if i := indexOf(sample, share.UUID); i >= 0 && share.Held > 0 {
			held = append(held, scheduler.Share{GPU: i, Bytes: share.Held})
		}
	}
	if held == nil {
		return needs
	}
	return held
}

// choices returns where the model can be: only where it is, if that is decided.
func (m *model) choices(sample *gpu.Sample) (all []scheduler.Placement) {
	for _, p := range m.placements {
		if on, _ := m.needs(p, sample); len(on) > 0 && (p.Current || !m.isPlaced()) {
			all = append(all, on)
		}
	}
	return all
}

// place puts the next process of a model where the plan wants it.
func (m *model) place(on scheduler.Placement, sample *gpu.Sample) {
	uuid := ""
	if len(on) == 1 && m.placements[0].Single {
		uuid = sample.GPUs[on[0].GPU].UUID
	}
	m.VRAM.Place(uuid)
}

// observeSpread finds out that the process uses all GPUs, although it was put on one: a
// llama-server that is not built for CUDA may not know the variable that restricts it. It is
// planned on all of them from then on.
func (o *Owner) observeSpread(m *model) {
	if len(m.placements) < 2 {
		return
	}
	all, stray := m.placements[len(m.placements)-1], uint64(0)
	for _, p := range m.placements[:len(m.placements)-1] {
		if !p.Current && !all.Current {
			stray += p.Shares[0].Held
		}
	}
	if stray > strayVRAM && !m.spreads {
		m.spreads = true
		o.log.Warn().Str("server", m.Name).Msg(fmt.Sprintf("its process holds %s on GPUs that it was not put on; from now on it is planned as split over all GPUs. Set `gpu` for the server, or `--device` in its args", gpu.Size(stray)))
	}
	if m.spreads {
		all.Current = true
		m.placements = []placement.Placement{all}
	}
}

// observeStart unloads a model whose start waits for its file, or for a GPU that was chosen for
// it, so that it is planned again: the GPU is lost, or something else has taken its VRAM.
func (o *Owner) observeStart(m *model, now time.Time) {
	waits := m.now.State == supervisor.Starting || m.now.State == supervisor.Restarting
	if !waits || m.unloading || m.now.DrainRequested || m.now.UnloadRequested {
		return
	}
	if m.isAbsent() {
		o.unload(m, now, Failure, m.absent)
		return
	}
	if len(m.placements) == 0 {
		return
	}
	switch lost := len(m.current().Shares) == 0; {
	case lost:
		o.unload(m, now, Failure, "its GPU is lost; "+OnCall)
	case len(m.placements) > 1 && m.now.State == supervisor.Starting && m.now.Reason != "" && now.Sub(m.now.Since) >= placeAnew:
		o.unload(m, now, Failure, m.now.Reason+"; "+OnCall)
	}
}
