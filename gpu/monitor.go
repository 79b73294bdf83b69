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
	// answerTimeout is how long a reading may take before the driver is taken to
	// hang. It is not called again until it has come back.
	answerTimeout = 5 * time.Second
	closeGrace    = time.Second
)

// Monitor reads the GPUs once a second. Sample may be called from anywhere and
// never waits.
type Monitor struct {
	driver    driver // nil = there is nothing to read
	log       zerolog.Logger
	latest    atomic.Pointer[Sample]
	requested chan struct{}
	suspended atomic.Bool

	// Of Run alone:
	changed       chan struct{}
	versions      versions
	known         []GPU // all that were ever seen, without figures, by index
	programs      map[int]string
	loggedProblem string // the problem that the log knows of
	extra         bool   // the reading that is published was asked for
}

// NewMonitor makes a monitor of NVIDIA's GPUs, which reads nothing yet.
func NewMonitor(log zerolog.Logger) *Monitor { return newMonitor(newNVML(), log) }

// NewNull makes a monitor for those who use no GPU: it knows of none.
func NewNull() *Monitor { return newMonitor(nil, zerolog.Nop()) }

func newMonitor(d driver, log zerolog.Logger) *Monitor {
	m := &Monitor{driver: d, log: log, requested: make(chan struct{}, 1), changed: make(chan struct{})}
	m.latest.Store(&Sample{Changed: m.changed})
	return m
}

// Sample returns the last reading. Before the first one its At is zero.
func (m *Monitor) Sample() *Sample { return m.latest.Load() }

// RequestSample asks for a reading now, where somebody waits for one.
func (m *Monitor) RequestSample() {
	select {
	case m.requested <- struct{}{}:
	default:
	}
}

// Suspend lets go of the driver, so that it can be changed, or takes it up again.
func (m *Monitor) Suspend(on bool) {
	if m.suspended.Swap(on) != on {
		m.RequestSample()
	}
}

// errSuspended says why nothing is read that could be.
var errSuspended = errors.New("the driver is left alone while the servers are drained, so that it can be changed")

// Run reads until ctx ends. A driver that hangs then is left behind.
func (m *Monitor) Run(ctx context.Context) {
	if m.driver == nil {
		m.runNull(ctx)
		return
	}
	rounds := make(chan struct{})
	results := make(chan result, 1) // so that a round that was given up can end
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
				hung.Reset(sampleEvery) // told each second: time goes by for what is known of it
				m.publishProblem(fmt.Errorf("the NVIDIA driver has not answered for %s", answerTimeout))
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

// runNull publishes that there is no GPU, at the pace of the others: what a
// server is told from outside depends on samples.
func (m *Monitor) runNull(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		m.publish(Sample{})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// publishResult publishes what a round came to.
func (m *Monitor) publishResult(r result) {
	if r.err != nil {
		m.publishProblem(r.err)
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
	m.publish(Sample{Driver: r.versions.driver, CUDA: r.versions.cuda, GPUs: gpus})
}

// withLost adds what was seen before and is not there any more. One that is lost
// may no longer tell who it is: its place does. Of one that never told, nobody
// can say later that it is gone.
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

// namePrograms fills in what the processes run. Each is looked up once, for as
// long as it is on a GPU.
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

// publishProblem publishes that nothing can be read. What was lost stays so: a driver that
// does not answer does not say otherwise.
func (m *Monitor) publishProblem(err error) {
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
	m.publish(Sample{Driver: m.versions.driver, CUDA: m.versions.cuda, Problem: err.Error(), Suspended: errors.Is(err, errSuspended), GPUs: gpus})
}

func (m *Monitor) publish(s Sample) {
	told := m.changed
	m.changed = make(chan struct{})
	s.At, s.Changed, s.Extra = time.Now(), m.changed, m.extra
	m.latest.Load().next = &s // which nobody reads before told is closed
	m.latest.Store(&s)
	close(told)
}
