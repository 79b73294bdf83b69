package placement

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor"
)

// Workload is a server as the GPUs see it: which of them it uses, what it needs of
// their VRAM, and what the samples show of it. It outlives the server's processes,
// and reloads.
type Workload struct {
	name string
	pool *Pool

	mu       sync.Mutex
	entry    config.Server
	selector string     // the GPUs to use, as the configuration has them; "" = all
	gpuUUIDs []string   // the UUIDs of those, once they were found: an index may pass from one to another
	fit      string     // config.FitWait or FitIgnore
	policy   gpu.Policy // when a sample counts as bad for it

	estimated      string // the signature of the model's file that need was estimated from
	need           vram.Need
	trainedContext int // tokens of context that the model was made for; 0 = unknown

	history    gpu.History
	conditions []gpu.Condition

	// Of the process pid.
	pid            int
	seenOn         map[string]bool // UUIDs of the GPUs that it was seen on
	lostAtStart    map[string]bool // of those that were lost when it was started: it can't be on them
	heldBytes      *uint64         // of VRAM; nil = unknown
	freeWhenHeld   uint64          // bytes that its GPUs had free when it held them
	releaseStarted time.Time       // when UnreclaimedVRAM was first asked what it has released; zero = not yet

	lostAtAdmit map[string]bool // lostAtStart of the process that was admitted last
	reserved    bool            // VRAM is reserved for it, and its process has not allocated all of it yet
}

// Workload returns a new workload. ApplyConfig of the Pool adds it.
func (p *Pool) Workload(name string) *Workload { return &Workload{name: name, pool: p} }

var _ supervisor.GPU = (*Workload)(nil)

// ApplyConfig sets what the configuration says of the workload.
func (w *Workload) ApplyConfig(entry config.Server, cfg *config.Config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if selector := cfg.DevicesOf(entry); selector != w.selector {
		w.selector, w.gpuUUIDs = selector, nil
	}
	w.entry, w.fit = entry, cfg.GPU.Fit
	w.policy = policyOf(cfg.GPU)
}

// uuids are the GPUs that the workload is to use. The caller holds w.mu.
func (w *Workload) uuids(s *gpu.Sample) ([]string, error) {
	if w.selector == "" {
		return s.Select("") // as many as there are
	}
	if w.gpuUUIDs == nil {
		found, err := s.Select(w.selector)
		if err != nil {
			return nil, err
		}
		w.gpuUUIDs = found
	}
	return w.gpuUUIDs, nil
}

// Devices implements supervisor.GPU. GPUs are named by UUID, so that the driver's order
// and CUDA's can't differ; where the driver does not give one, as in the configuration.
func (w *Workload) Devices() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	uuids, err := w.uuids(w.pool.monitor.Sample())
	if err != nil || w.selector == "" || w.selector == gpu.None {
		return w.selector
	}
	return strings.Join(uuids, ",")
}

// Admit implements supervisor.GPU.
func (w *Workload) Admit(ctx context.Context) string {
	w.estimate()
	// The monitor reports a driver that hangs after some seconds. One that was released is
	// opened again, since the command that starts a server has ended the release.
	for s := w.pool.monitor.Sample(); s.At.IsZero() || s.Suspended; s = s.Next() {
		select {
		case <-ctx.Done():
			return ""
		case <-s.Changed:
		}
	}
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	s := w.pool.monitor.Sample()
	residents := w.pool.residents(w, s)
	w.mu.Lock()
	defer w.mu.Unlock()
	request := Request{Selector: w.selector, Need: w.need, IgnoreFit: w.fit == config.FitIgnore, Args: w.entry.Args}
	request.UUIDs, request.NotFound = w.uuids(s)
	decision := Decide(request, residents, s)
	w.reserved = decision.Reserves
	w.lostAtAdmit = map[string]bool{}
	for _, g := range s.GPUs {
		w.lostAtAdmit[g.UUID] = g.Lost
	}
	return decision.Wait
}

// resident returns the workload as others have to consider it, if VRAM is reserved for it.
func (w *Workload) resident(s *gpu.Sample) (r Resident, reserved bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	uuids, _ := w.uuids(s)
	if !w.reserved {
		return Resident{}, false
	}
	claimed := uint64(0)
	if w.heldBytes != nil {
		claimed = *w.heldBytes
	}
	total := needOn(w.need, len(uuids))
	return Resident{Name: w.name, UUIDs: uuids, Unclaimed: total - min(claimed, total)}, true
}

// Held is how much VRAM the last process held; problem is why that is unknown, or that it
// held none.
func (w *Workload) Held() (held, problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s := w.pool.monitor.Sample(); {
	case w.selector == gpu.None:
		return "", "it used no GPU"
	case s.Suspended:
		return "", "its VRAM was seen to be free before, and the driver is left alone"
	case s.Problem != "":
		return "", "whether its VRAM is free can't be told: " + s.Problem
	case w.heldBytes == nil || *w.heldBytes == 0:
		return "", "it was not seen to hold any VRAM"
	}
	return gpu.Size(*w.heldBytes), ""
}

// UnreclaimedVRAM implements supervisor.GPU.
func (w *Workload) UnreclaimedVRAM() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.heldBytes == nil || *w.heldBytes == 0 {
		return ""
	}
	if w.releaseStarted.IsZero() {
		w.releaseStarted = time.Now()
	}
	s := w.pool.monitor.Sample()
	if s.Problem != "" {
		return ""
	}
	held := *w.heldBytes
	if s.At.Before(w.releaseStarted) { // the process may have held its VRAM then
		w.pool.monitor.RequestSample()
		return gpu.Size(held) + " are to come back"
	}
	free, known := freeOf(w.gpus(s))
	if !known {
		return ""
	}
	back, enough := reclaimed(held, w.freeWhenHeld, free)
	if enough {
		w.heldBytes = nil
		return ""
	}
	w.pool.monitor.RequestSample()
	return fmt.Sprintf("%s of %s are back", gpu.Size(back), gpu.Size(held))
}

// gpus returns the GPUs that the workload is on: those that its process was seen on, else
// those that it was to use and that were there. The caller holds w.mu.
func (w *Workload) gpus(s *gpu.Sample) []gpu.GPU {
	uuids, err := w.uuids(s)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g gpu.GPU) bool {
		return len(w.seenOn) > 0 && !w.seenOn[g.UUID] || w.lostAtStart[g.UUID] || !slices.Contains(uuids, g.UUID)
	})
}

// Conditions returns what is wrong with the workload's GPUs, or with what it has of them.
func (w *Workload) Conditions() []gpu.Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conditions
}

// Usage returns what the model needs, and how many bytes of VRAM the process pid holds;
// held is nil where that is unknown. ok is false where the model needs no VRAM, there is no
// GPU, or the need is unknown.
func (w *Workload) Usage(pid int) (need vram.Need, held *uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.selector == gpu.None || w.need.Total() == 0 || len(w.pool.monitor.Sample().GPUs) == 0 {
		return vram.Need{}, nil, false
	}
	if pid != 0 && pid == w.pid {
		held = w.heldBytes
	}
	return w.need, held, true
}
