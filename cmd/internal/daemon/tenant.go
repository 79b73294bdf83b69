package daemon

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor"
)

// tenant is a server as the GPUs see it: which of them it uses, what it needs of
// their VRAM, and what the samples say of it. It outlives the server's processes,
// and reloads.
type tenant struct {
	name  string
	house *house
	log   zerolog.Logger

	streams atomic.Bool // its streams say what its whole answers do

	mu     sync.Mutex
	entry  config.Server
	wants  string     // the GPUs to use, as the configuration has them
	means  []string   // the UUIDs of those, once they were found: an index may pass from one to another
	fit    string     // config.FitWait or FitIgnore
	policy gpu.Policy // when a sample is held against it

	estimated string // what the model's file looked like when need was worked out
	need      vram.Need
	trained   int // tokens of context that the model was made for; 0 = unknown

	history  gpu.History
	findings []gpu.Finding
	pid      int             // of the process that what follows is about
	seen     map[string]bool // UUIDs of the GPUs that it was seen on
	absent   map[string]bool // of those that were lost when it was started: it can't be on them
	lost     map[string]bool // what will be absent for the process that was admitted last
	holds    *uint64         // bytes of VRAM; nil = unknown
	freeThen uint64          // bytes that its GPUs had free when it held them
	gone     time.Time       // when it was first asked what is back of them; zero = not yet
	admitted bool            // it has been given room, and has not taken all of it yet
}

// house is what all tenants share.
type house struct {
	monitor *gpu.Monitor

	mu       sync.Mutex // held by whoever is given room, so that two don't get the same
	tenants  []*tenant
	policy   gpu.Policy
	history  gpu.History
	findings []gpu.Finding // of the GPUs themselves
}

func policyOf(g config.GPU) gpu.Policy {
	return gpu.Policy{
		BadSamples: g.BadSamples, GoodSamples: g.GoodSamples, VRAMFloor: uint64(g.VRAMFloor),
		BusyPercent: g.BusyPercent, BusyFor: g.BusyFor,
	}
}

// settle names the tenants, and when a sample is bad.
func (h *house) settle(fleet []*served, policy gpu.Policy) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tenants, h.policy = nil, policy
	for _, s := range fleet {
		h.tenants = append(h.tenants, s.tenant)
	}
}

// settle makes a tenant follow a configuration.
func (t *tenant) settle(entry config.Server, cfg *config.Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wants := cfg.DevicesOf(entry); wants != t.wants {
		t.wants, t.means = wants, nil
	}
	t.entry, t.fit = entry, cfg.GPU.Fit
	t.policy = policyOf(cfg.GPU)
	t.streams.Store(sameStreams(entry.Args))
}

// uuids are the GPUs that the tenant is to use.
func (t *tenant) uuids(s *gpu.Sample) ([]string, error) {
	if t.wants == "" {
		return s.Select("") // as many as there are
	}
	if t.means == nil {
		found, err := s.Select(t.wants)
		if err != nil {
			return nil, err
		}
		t.means = found
	}
	return t.means, nil
}

// Devices implements supervisor.GPU. GPUs go by UUID, so that the driver's order
// and CUDA's can't differ; where the driver does not tell, as they were named.
func (t *tenant) Devices() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	uuids, err := t.uuids(t.house.monitor.Sample())
	if err != nil || t.wants == "" || t.wants == gpu.None {
		return t.wants
	}
	return strings.Join(uuids, ",")
}

// Held implements maintenance.VRAM.
func (t *tenant) Held() (held, problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch s := t.house.monitor.Sample(); {
	case t.wants == gpu.None:
		return "", "it used no GPU"
	case s.Rests:
		return "", "its VRAM was seen to be free before, and the driver is left alone"
	case s.Problem != "":
		return "", "whether its VRAM is free can't be told: " + s.Problem
	case t.holds == nil || *t.holds == 0:
		return "", "it was not seen to hold any VRAM"
	}
	return gpu.Size(*t.holds), ""
}

// enoughBack is how much of the VRAM of a process that is gone has to be back
// before the next one is started, in percent: the driver keeps some of it.
const enoughBack = 75

// Outstanding implements supervisor.GPU and maintenance.VRAM.
func (t *tenant) Outstanding() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holds == nil || *t.holds == 0 {
		return ""
	}
	if t.gone.IsZero() {
		t.gone = time.Now()
	}
	s := t.house.monitor.Sample()
	if s.Problem != "" {
		return ""
	}
	held := *t.holds
	if s.At.Before(t.gone) { // it may tell of the time before
		t.house.monitor.Sooner()
		return gpu.Size(held) + " are to come back"
	}
	free, known := freeOf(t.gpus(s))
	if !known {
		return ""
	}
	back := min(free-min(free, t.freeThen), held)
	if back*100 >= held*enoughBack {
		t.holds = nil
		return ""
	}
	t.house.monitor.Sooner()
	return fmt.Sprintf("%s of %s are back", gpu.Size(back), gpu.Size(held))
}

// gpus returns the GPUs that the tenant is on: those that its process was seen
// on, else those that it was to use and that were there.
func (t *tenant) gpus(s *gpu.Sample) []gpu.GPU {
	uuids, err := t.uuids(s)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g gpu.GPU) bool {
		return len(t.seen) > 0 && !t.seen[g.UUID] || t.absent[g.UUID] || !slices.Contains(uuids, g.UUID)
	})
}

func present(s *gpu.Sample, uuids []string) []gpu.GPU {
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g gpu.GPU) bool { return g.Lost || !slices.Contains(uuids, g.UUID) })
}

// freeOf sums up what some GPUs have free. Without a GPU nothing is known.
func freeOf(gpus []gpu.GPU) (bytes uint64, known bool) {
	for _, g := range gpus {
		if g.MemoryFree == nil {
			return 0, false
		}
		bytes += *g.MemoryFree
	}
	return bytes, len(gpus) > 0
}

var _ supervisor.GPU = (*tenant)(nil)
