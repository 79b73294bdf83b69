package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/gguf"
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

// enoughBack is how much of the VRAM of a process that is gone has to be back
// before the next one is started, in percent: the driver keeps some of it.
const enoughBack = 75

// Outstanding implements supervisor.GPU.
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

// Admit implements supervisor.GPU.
func (t *tenant) Admit(ctx context.Context) string {
	t.estimate()
	for s := t.house.monitor.Sample(); s.At.IsZero(); s = s.Next() { // a driver that hangs is told of after some seconds
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

// estimate works out what the model needs, once for each state of its file. The
// file is read without a lock: it may lie on a disk that does not answer. One
// that can't be read is told of once, and needs nothing: llama-server will say
// what is wrong with it.
func (t *tenant) estimate() {
	t.mu.Lock()
	entry, known := t.entry, t.estimated
	t.mu.Unlock()
	run := vram.Run{CtxSize: entry.CtxSize, GPULayers: entry.NGPULayers, Args: entry.Args}
	looks := look(entry.Model) + fmt.Sprint(run)
	if looks == known {
		return
	}
	var need vram.Need
	trained := 0
	h, err := gguf.Read(entry.Model)
	if err != nil {
		t.log.Warn().Str("server", t.name).Err(err).Msg("whether the model fits into the VRAM can't be told; it is started anyway")
	} else {
		need = vram.Estimate(h, run)
		trained = int(h.Context)
	}
	if name := ownSettings(os.Environ()); name != "" {
		need.Unsure, need.Less = name+" is set", true
	}
	if need.Unsure != "" && need.Less {
		t.log.Info().Str("server", t.name).Msg("whether the model fits into the VRAM can't be told (" + need.Unsure + "); it is started anyway")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.estimated, t.need, t.trained = looks, need, trained
}

// ownSettings returns a variable of the environment by which llama-server is
// told what is not in its arguments; "" = there is none.
func ownSettings(environ []string) string {
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "LLAMA_ARG_") && value != "" {
			return name
		}
	}
	return ""
}

func look(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.Size(), info.ModTime())
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
