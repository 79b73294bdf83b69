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

// Workload is a server's use of the GPUs: which ones it uses, how much VRAM it needs, and
// what the samples show of its process. It outlives the server's processes, and reloads.
type Workload struct {
	name string
	pool *Pool

	mu       sync.Mutex
	entry    config.Server
	selector string     // the configured GPUs; "" = all
	gpuUUIDs []string   // their UUIDs, once found: an index may move to another GPU
	placed   []string   // the UUIDs that Place has set; nil = all that the configuration selects
	fit      string     // config.FitWait or FitIgnore
	policy   gpu.Policy // the thresholds

	estimated      string // the signature of the file from which need was estimated
	need           vram.Need
	trainedContext int    // tokens; 0 = unknown
	fileSize       uint64 // bytes; 0 = unknown

	history    gpu.History
	conditions []gpu.Condition

	// Of the process pid.
	pid            int
	pids           []int           // and others of its group, in the last sample that shows them
	seenOn         map[string]bool // UUIDs of the GPUs on which a sample has shown it
	lostAtStart    map[string]bool // UUIDs of the GPUs that were lost at its start, so that it cannot be on them
	heldBytes      *uint64         // of VRAM; nil = unknown
	whenHeld       vramUse         // of its GPUs meanwhile
	releaseStarted time.Time       // the first call of UnreclaimedVRAM; zero = none yet

	lostAtAdmit map[string]bool // lostAtStart of the process that is about to start
	reserved    bool            // VRAM is reserved that the process has not allocated yet
}

// Workload returns a new workload. The Pool's ApplyConfig adds it.
func (p *Pool) Workload(name string) *Workload { return &Workload{name: name, pool: p} }

var _ supervisor.GPU = (*Workload)(nil)

// ApplyConfig sets the workload's configuration.
func (w *Workload) ApplyConfig(entry config.Server, cfg *config.Config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if selector := cfg.DevicesOf(entry); selector != w.selector {
		w.selector, w.gpuUUIDs = selector, nil
	}
	w.entry, w.fit = entry, cfg.GPU.Fit
	w.policy = policyOf(cfg.GPU)
}

// uuids returns the UUIDs of the GPUs that the next process may use. The caller holds w.mu.
func (w *Workload) uuids(s *gpu.Sample) ([]string, error) {
	if w.placed != nil && w.entry.GPU == "" {
		return w.placed, nil
	}
	return w.selected(s)
}

// modelGPUs returns those of some GPUs, which have the given UUIDs, on which the model is
// loaded. The caller holds w.mu.
func (w *Workload) modelGPUs(uuids []string, gpus []gpu.GPU) []gpu.GPU {
	return Request{Selector: w.selector, UUIDs: uuids, Args: w.entry.Args}.modelGPUs(gpus)
}

// selected returns the UUIDs of the configured GPUs. The caller holds w.mu.
func (w *Workload) selected(s *gpu.Sample) ([]string, error) {
	if w.selector == "" {
		return s.Select("") // all that there are
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

// Devices implements supervisor.GPU. It returns UUIDs, since CUDA may number the GPUs in
// another order than the driver. If the driver reports no UUIDs, it returns the configured
// value.
func (w *Workload) Devices() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	uuids, err := w.uuids(w.pool.monitor.Sample())
	if err != nil || w.selector == "" && w.placed == nil || w.selector == gpu.None {
		return w.selector
	}
	return strings.Join(uuids, ",")
}

// Admit implements supervisor.GPU.
func (w *Workload) Admit(ctx context.Context) string {
	w.estimate()
	// If the driver hangs, the monitor reports that after some seconds. A released driver
	// is opened again, since the command that starts a server has ended the release.
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
	if !w.entry.OnDemand() { // a reload has changed that
		w.placed = nil
	}
	request := Request{Selector: w.selector, Need: w.assumedNeed(), IgnoreFit: w.fit == config.FitIgnore, Args: w.entry.Args}
	request.UUIDs, request.NotFound = w.uuids(s)
	decision := Decide(request, residents, s)
	w.reserved = decision.Reserves
	w.lostAtAdmit = map[string]bool{}
	for _, g := range s.GPUs {
		w.lostAtAdmit[g.UUID] = g.Lost
	}
	return decision.Wait
}

// resident returns what starts of other workloads have to consider, if VRAM is reserved
// for this one.
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
	total := w.assumedNeed().Split(len(uuids)).Total()
	return Resident{Name: w.name, UUIDs: uuids, Unclaimed: total - min(claimed, total)}, true
}

// Held returns how much VRAM the last process held; problem is why that is unknown, or
// that it held none.
func (w *Workload) Held() (held, problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s := w.pool.monitor.Sample(); {
	case w.selector == gpu.None:
		return "", "it used no GPU"
	case s.Suspended:
		return "", "its VRAM was free before the driver was released"
	case s.Problem != "":
		return "", "whether its VRAM is free is unknown: " + s.Problem
	case w.heldBytes == nil || *w.heldBytes == 0:
		return "", "no sample has shown VRAM of it"
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
	if s.At.Before(w.releaseStarted) { // the process may still have held its VRAM
		w.pool.monitor.RequestSample()
		return gpu.Size(held) + " are not released yet"
	}
	now, known := useOf(w.gpus(s), w.pids)
	if !known {
		return ""
	}
	back, enough := reclaimed(held, w.whenHeld, now)
	if enough {
		w.heldBytes = nil
		return ""
	}
	w.pool.monitor.RequestSample()
	return fmt.Sprintf("%s of %s are released", gpu.Size(back), gpu.Size(held))
}

// gpus returns the GPUs of the workload: those on which samples have shown its process,
// else the configured ones that were not lost. The caller holds w.mu.
func (w *Workload) gpus(s *gpu.Sample) []gpu.GPU {
	uuids, err := w.uuids(s)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g gpu.GPU) bool {
		return len(w.seenOn) > 0 && !w.seenOn[g.UUID] || w.lostAtStart[g.UUID] || !slices.Contains(uuids, g.UUID)
	})
}

// Conditions returns the conditions of the workload and its GPUs.
func (w *Workload) Conditions() []gpu.Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conditions
}

// Usage returns the need of the model on its GPUs together, and how many bytes of VRAM the
// process pid holds; held is nil if that is unknown. Without a process (pid is 0), the need is
// that on one GPU if llmsup can put the model on one. ok is false if the model needs no VRAM,
// there is no GPU, or the need is unknown.
func (w *Workload) Usage(pid int) (need vram.Need, held *uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	need = w.assumedNeed()
	s := w.pool.monitor.Sample()
	if w.selector == gpu.None || need.Total() == 0 || len(s.GPUs) == 0 {
		return vram.Need{}, nil, false
	}
	uuids, _ := w.uuids(s) // an error: none of them is there, and the need is that on one
	onOne := pid == 0 && slices.ContainsFunc(w.choosable(s), func(g gpu.GPU) bool { return need.Total() <= *g.MemoryTotal })
	if !onOne {
		need = need.Split(len(w.modelGPUs(uuids, availableGPUs(s, uuids))))
	}
	if pid != 0 && pid == w.pid {
		held = w.heldBytes
	}
	return need, held, true
}
