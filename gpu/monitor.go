package gpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	sampleEvery = time.Second
	// answerTimeout is how long a reading may take before the driver counts as hung. It
	// is not called again until that call has returned.
	answerTimeout = 5 * time.Second
	closeGrace    = time.Second
)

// Monitor reads the GPUs once a second. All its methods but Run are safe for concurrent
// use and never wait.
type Monitor struct {
	driver    driver // nil = no GPU is to be read
	log       zerolog.Logger
	latest    atomic.Pointer[Sample]
	requested chan struct{}
	suspended atomic.Bool

	// Only Run uses these:
	changed       chan struct{}
	versions      versions
	known         []GPU // all GPUs up to now, without values, by index
	programs      map[int]string
	loggedProblem string // the last one that was logged
	extra         bool   // the reading was requested
}

// NewMonitor returns a monitor of NVIDIA's GPUs. Run starts it.
func NewMonitor(log zerolog.Logger) *Monitor { return newMonitor(newNVML(), log) }

// NewNull returns a monitor for a configuration without GPUs. Its samples have none.
func NewNull() *Monitor { return newMonitor(nil, zerolog.Nop()) }

func newMonitor(d driver, log zerolog.Logger) *Monitor {
	m := &Monitor{driver: d, log: log, requested: make(chan struct{}, 1), changed: make(chan struct{})}
	m.latest.Store(&Sample{Changed: m.changed})
	return m
}

// Sample returns the latest reading. Before the first one its At is zero.
func (m *Monitor) Sample() *Sample { return m.latest.Load() }

// RequestSample requests a reading before the next regular one.
func (m *Monitor) RequestSample() {
	select {
	case m.requested <- struct{}{}:
	default:
	}
}

// Suspend releases the driver, so that it can be replaced, or resumes reading.
func (m *Monitor) Suspend(suspend bool) {
	if m.suspended.Swap(suspend) != suspend {
		m.RequestSample()
	}
}

// errSuspended is the problem of samples while reading is suspended.
var errSuspended = errors.New("the NVIDIA driver is released while the servers are drained, so that it can be replaced")

// Run reads until ctx ends. If the driver hangs then, its goroutine is left behind.
func (m *Monitor) Run(ctx context.Context) {
	if m.driver == nil {
		m.runNull(ctx)
		return
	}
	rounds := make(chan struct{})
	results := make(chan result, 1) // so that an abandoned round can end
	ended := make(chan struct{})
	go func() { defer close(ended); m.driverLoop(rounds, results) }()
	defer func() {
		close(rounds)
		select {
		case <-ended:
		case <-time.After(closeGrace):
		}
	}()

	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	hung := time.NewTimer(answerTimeout)
	defer hung.Stop()
	extra := false
	for {
		rounds <- struct{}{}
		hung.Reset(answerTimeout)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case r := <-results:
				m.extra = extra
				m.publishResult(r)
				m.extra, waiting = false, false
			case <-hung.C:
				hung.Reset(sampleEvery) // a sample each second, from which durations are computed
				m.publishProblem(time.Now(), fmt.Errorf("the NVIDIA driver has not answered for %s", answerTimeout))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			extra = false
		case <-m.requested:
			extra = true
		}
	}
}

// runNull publishes samples without GPUs each second: the daemon updates the servers with
// each sample.
func (m *Monitor) runNull(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		m.publish(Sample{At: time.Now()})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// publishResult publishes the result of a round.
func (m *Monitor) publishResult(r result) {
	if r.err != nil {
		m.publishProblem(r.at, r.err)
		return
	}
	m.versions = r.versions
	gpus := m.withLost(r.gpus)
	m.known = m.known[:0:0]
	for _, g := range gpus {
		m.known = append(m.known, GPU{Index: g.Index, UUID: g.UUID, Name: g.Name})
	}
	if m.loggedProblem != "" {
		m.log.Info().Int("gpus", len(gpus)).Msg("the GPUs can be read again")
		m.loggedProblem = ""
	}
	m.namePrograms(gpus)
	m.publish(Sample{At: r.at, Driver: r.versions.driver, CUDA: r.versions.cuda, GPUs: gpus})
}

// withLost adds the GPUs that were read before and are missing now. A lost GPU may no
// longer report its UUID, but it keeps its index. A GPU that never reported a UUID cannot
// be found to be missing.
func (m *Monitor) withLost(gpus []GPU) []GPU {
	gpus = slices.Clone(gpus)
	for _, old := range m.known {
		if old.UUID == "" || slices.ContainsFunc(gpus, func(g GPU) bool { return g.UUID == old.UUID }) {
			continue
		}
		if i := slices.IndexFunc(gpus, func(g GPU) bool { return g.Index == old.Index && g.UUID == "" }); i >= 0 {
			old.Lost = gpus[i].Lost
			gpus[i] = old
		} else {
			old.Lost = true
			gpus = append(gpus, old)
		}
	}
	slices.SortStableFunc(gpus, func(a, b GPU) int { return a.Index - b.Index })
	return gpus
}

// namePrograms fills in the programs of the processes. Each is looked up once, while the
// process is on a GPU.
func (m *Monitor) namePrograms(gpus []GPU) {
	names := map[int]string{}
	for _, g := range gpus {
		for i := range g.Processes {
			p := &g.Processes[i]
			name, known := m.programs[p.PID]
			if !known {
				name = programOf(p.PID)
			}
			p.Program, names[p.PID] = name, name
		}
	}
	m.programs = names
}

// publishProblem publishes a sample without values. A lost GPU stays lost: the driver has
// not found it.
func (m *Monitor) publishProblem(at time.Time, err error) {
	if m.loggedProblem != err.Error() {
		m.loggedProblem = err.Error()
		event := m.log.Warn()
		if _, absent := errors.AsType[absentError](err); absent || errors.Is(err, errSuspended) {
			event = m.log.Info()
		}
		event.Msg("no GPU is read: " + err.Error())
	}
	old := m.latest.Load()
	var gpus []GPU
	for _, g := range old.GPUs {
		gpus = append(gpus, g.blank())
	}
	m.publish(Sample{At: at, Driver: m.versions.driver, CUDA: m.versions.cuda, Problem: err.Error(), Suspended: errors.Is(err, errSuspended), GPUs: gpus})
}

func (m *Monitor) publish(s Sample) {
	changed := m.changed
	m.changed = make(chan struct{})
	s.Changed, s.Extra = m.changed, m.extra
	m.latest.Load().next = &s // it is not read before changed is closed
	m.latest.Store(&s)
	close(changed)
}
