package placement

import (
	"os"
	"slices"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

// Share is the VRAM of one GPU that a workload uses or would use, in bytes.
type Share struct {
	UUID string
	Need uint64 // configured or estimated; 0 = unknown
	Held uint64 // that the sample shows for its processes
}

// Estimate reads the model's file, unless it has been read already. Until then Shares is
// not known.
func (w *Workload) Estimate() { w.estimate() }

// Placement is where a model is or can be.
type Placement struct {
	Shares  []Share // of each GPU
	Single  bool    // one GPU of those among which the model's is chosen
	Current bool    // the process is there, or the next one will be
}

// Placements returns where the model can be, the first of several that are equally good
// first: on each single GPU, and split over all of them. It is only one if the server's `gpu`,
// the flags or the environment choose the GPUs, or if the need is not known. pids are the
// model's processes. known is false before Estimate, and in the sample before the first reading.
func (w *Workload) Placements(s *gpu.Sample, pids []int) (all []Placement, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.estimated == "" || s.At.IsZero() {
		return nil, false
	}
	if gpus := w.choosable(s); len(gpus) > 0 {
		for i := range gpus {
			current := slices.Contains(w.placed, gpus[i].UUID) || w.placed == nil && len(gpus) == 1
			all = append(all, Placement{w.shares(gpus[i:i+1], pids), true, current})
		}
		if len(gpus) > 1 {
			all = append(all, Placement{w.shares(gpus, pids), false, w.placed == nil})
		}
		return all, true
	}
	uuids, err := w.uuids(s)
	if err != nil || w.selector == gpu.None {
		return nil, true
	}
	available := availableGPUs(s, uuids)
	if w.selector != "" || len(available) == 0 { // a start waits for those that are lost, too
		available = slices.DeleteFunc(slices.Clone(s.GPUs), func(g gpu.GPU) bool { return !slices.Contains(uuids, g.UUID) })
	}
	gpus := w.modelGPUs(uuids, available)
	if len(gpus) == 0 {
		return nil, true
	}
	return []Placement{{w.shares(gpus, pids), w.placed != nil, true}}, true
}

// Place puts the next processes on one GPU of those that Placements returns; "" = on all. The
// present process stays where it is.
func (w *Workload) Place(uuid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.placed = nil; uuid != "" {
		w.placed = []string{uuid}
	}
}

// choosable returns the GPUs on any of which the model can be; none if its GPUs are not to be
// chosen. The caller holds w.mu.
func (w *Workload) choosable(s *gpu.Sample) []gpu.GPU {
	need := w.assumedNeed()
	selected, err := w.selected(s)
	switch {
	case err != nil || w.selector == gpu.None || w.entry.GPU != "" || len(selected) < 2 || !w.entry.OnDemand():
		return nil
	case need.Total() == 0 || need.Overestimated:
		return nil
	case vram.ChoosesGPUs(w.entry.Args) || os.Getenv(visibleDevices) != "":
		return nil
	}
	gpus := availableGPUs(s, selected)
	if slices.ContainsFunc(gpus, func(g gpu.GPU) bool { return g.MemoryFree == nil || g.MemoryTotal == nil }) {
		return nil
	}
	return gpus
}

// visibleDevices is the variable with which the operator may choose the GPUs of all servers.
const visibleDevices = "CUDA_VISIBLE_DEVICES"

// shares returns the Shares of some GPUs. The caller holds w.mu.
func (w *Workload) shares(gpus []gpu.GPU, pids []int) (shares []Share) {
	need := w.assumedNeed()
	for _, g := range gpus {
		share := Share{UUID: g.UUID, Held: heldOn(g, pids)}
		if !need.Overestimated {
			share.Need = need.Split(len(gpus)).Total() / uint64(len(gpus))
		}
		shares = append(shares, share)
	}
	return shares
}

// assumedNeed returns the estimated need of the model, or the configured one until it has been
// measured. The caller holds w.mu.
func (w *Workload) assumedNeed() vram.Need {
	if w.entry.VRAM == 0 {
		return w.need
	}
	return vram.Need{Weights: w.pool.need(w.name, uint64(w.entry.VRAM))}
}

// Signature identifies the version of the model's file and the settings for which the need
// was estimated; "" = none yet.
func (w *Workload) Signature() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.estimated
}

// FileSize returns the size of the model's files in bytes; 0 = unknown.
func (w *Workload) FileSize() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fileSize
}

// heldOn returns the VRAM that processes hold on a GPU.
func heldOn(g gpu.GPU, pids []int) (held uint64) {
	for _, p := range g.Processes {
		for _, pid := range pids {
			if p.PID == pid && p.Memory != nil {
				held += *p.Memory
			}
		}
	}
	return held
}
