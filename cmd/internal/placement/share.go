package placement

import (
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

// Shares returns the GPUs that the model is on, or would be on after a start: all that the
// configuration selects, evenly, as llama-server splits it. pids are its processes. known
// is false before Estimate, and while there is no sample.
func (w *Workload) Shares(pids []int) (shares []Share, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sharesOn(w.pool.monitor.Sample(), pids)
}

// sharesOn returns the Shares in a sample. The caller holds w.mu.
func (w *Workload) sharesOn(s *gpu.Sample, pids []int) (shares []Share, known bool) {
	if w.estimated == "" || s.At.IsZero() {
		return nil, false
	}
	if w.selector == gpu.None {
		return nil, true
	}
	uuids, err := w.uuids(s)
	if err != nil {
		return nil, true
	}
	need := w.assumedNeed()
	gpus := Request{Selector: w.selector, UUIDs: uuids, Args: w.entry.Args}.modelGPUs(availableGPUs(s, uuids))
	for _, g := range gpus {
		share := Share{UUID: g.UUID, Held: heldOn(g, pids)}
		if !need.Overestimated {
			share.Need = needOnGPUs(need, len(gpus)) / uint64(len(gpus))
		}
		shares = append(shares, share)
	}
	return shares, true
}

// assumedNeed returns the configured need of the model, else the estimated one. The caller
// holds w.mu.
func (w *Workload) assumedNeed() vram.Need {
	if w.entry.VRAM > 0 {
		return vram.Need{Weights: uint64(w.entry.VRAM)}
	}
	return w.need
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
