package ondemand

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

const gib = uint64(1) << 30

// machine is some GPUs with 24 GiB each, one if nothing else is set, and the servers on them.
// Their processes are simulated, and the driver is read once a second, or when that is
// requested.
type machine struct {
	t     *testing.T
	owner *Owner
	dir   string

	mu        sync.Mutex
	servers   []*simulated
	changed   chan struct{} // of the servers
	sample    *gpu.Sample
	newSample chan struct{}
	gpus      int
	lost      int    // index of a lost GPU; -1 = none
	foreign   uint64 // VRAM that other processes hold on the first GPU
	requested chan struct{}
	pids      int
	loadTimes []string // that the Owner has reported
	most      uint64   // VRAM that was held on a GPU at once
}

// simulated is a server. Its methods are called with the machine's lock held, unless they
// implement an interface.
type simulated struct {
	*machine
	name     string
	settings Settings
	gpu      int    // index of the GPU that it is on; -1 = on all, evenly
	placed   int    // likewise, of the next process
	strays   bool   // its processes are on all GPUs, wherever they are put
	size     uint64 // VRAM that it holds
	assumed  uint64 // VRAM that it is assumed to need
	isVRAM   bool   // assumed is configured, and not estimated
	load     time.Duration
	rebuild  time.Duration      // to process the cached prompts again
	fails    []supervisor.Class // of the next loads
	absent   time.Time          // until when its file is not there; zero = it is there

	now     *supervisor.Snapshot
	changed chan struct{}
	unload  *supervisor.DrainOptions
	drained bool
	calls   Calls
	demand  *Demand
	loads   int
	life    int // increases with each command, so that what was begun before is void
}

// inMachine runs a test in virtual time.
func inMachine(t *testing.T, test func(*machine)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, t.TempDir())
		defer m.run()()
		test(m)
	})
}

func newMachine(t *testing.T, dir string) *machine {
	m := &machine{t: t, dir: dir, gpus: 1, lost: -1, changed: make(chan struct{}), newSample: make(chan struct{}), requested: make(chan struct{}, 1)}
	m.read()
	m.owner = New(Options{
		Servers: m.list, GPUs: m, StateDir: dir, Log: zerolog.Nop(),
		Loaded: func(server string, took time.Duration) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.loadTimes = append(m.loadTimes, fmt.Sprint(server, " ", took))
		},
	})
	return m
}

func (m *machine) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { m.owner.Run(ctx) })
	all.Go(func() {
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-m.requested:
			}
			m.mu.Lock()
			m.read()
			m.mu.Unlock()
		}
	})
	return func() { cancel(); all.Wait() }
}

// read makes a sample. The caller holds the lock, or is the only goroutine.
func (m *machine) read() {
	var gpus []gpu.GPU
	for i := range m.gpus {
		g := gpu.GPU{Index: i, UUID: uuid(i), MemoryTotal: new(24 * gib), ProcessesKnown: true, Lost: i == m.lost}
		used := uint64(0)
		if i == 0 && m.foreign > 0 {
			used = m.foreign
			g.Processes = append(g.Processes, gpu.Process{PID: 99999, Program: "game", Memory: new(m.foreign)})
		}
		for _, s := range m.servers {
			if held := s.holds(i); held > 0 {
				used += held
				g.Processes = append(g.Processes, gpu.Process{PID: s.now.PID, Memory: &held})
			}
		}
		m.most = max(m.most, used)
		g.MemoryFree = new(24*gib - min(used, 24*gib))
		gpus = append(gpus, g)
	}
	old := m.newSample
	m.newSample = make(chan struct{})
	m.sample = &gpu.Sample{At: time.Now(), GPUs: gpus, Changed: m.newSample}
	close(old)
}

func uuid(i int) string { return "GPU-" + string(rune('a'+i)) }

// holds returns the VRAM that the process holds on a GPU.
func (s *simulated) holds(i int) uint64 {
	switch {
	case s.now.PID == 0:
		return 0
	case s.gpu == i:
		return s.size
	case s.gpu < 0:
		return s.size / uint64(s.gpus)
	}
	return 0
}

// Sample implements GPUs.
func (m *machine) Sample() *gpu.Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sample
}

// RequestSample implements GPUs.
func (m *machine) RequestSample() {
	select {
	case m.requested <- struct{}{}:
	default:
	}
}

func (m *machine) list() (list []Server, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.servers {
		list = append(list, Server{Name: s.name, Settings: s.settings, Process: s, VRAM: s, Calls: s.counted, Demand: s.demand, Absent: s.isAbsent})
	}
	return list, m.changed
}

// add adds a server whose model needs some GiB and loads in 4 s.
func (m *machine) add(name string, need float64, change func(*simulated)) *simulated {
	s := &simulated{
		machine: m, name: name, size: uint64(need * float64(gib)), assumed: uint64(need * float64(gib)), load: 4 * time.Second,
		settings: Settings{OnDemand: true}, gpu: -1, placed: -1, changed: make(chan struct{}), demand: m.owner.NewDemand(),
	}
	if change != nil {
		change(s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.now = &supervisor.Snapshot{Changed: s.changed}
	if s.settings.OnDemand {
		s.unload = &supervisor.DrainOptions{Reason: OnCall}
		s.set(supervisor.Unloaded, OnCall, nil)
	} else {
		s.begin()
	}
	m.setServers(append(slices.Clone(m.servers), s))
	return s
}

func (m *machine) setServers(servers []*simulated) {
	m.servers = servers
	close(m.changed)
	m.changed = make(chan struct{})
}

// set changes the state.
func (s *simulated) set(state supervisor.State, reason string, edit func(*supervisor.Snapshot)) {
	next := *s.now
	if edit != nil {
		edit(&next)
	}
	if state != next.State || next.Since.IsZero() {
		next.Since = time.Now()
	}
	next.State, next.Reason, next.UnloadRequested, next.DrainRequested = state, reason, s.unload != nil && !s.drained, s.drained
	old := s.changed
	s.changed = make(chan struct{})
	next.Changed = s.changed
	s.now = &next
	close(old)
}

// begin starts the process, which is loaded after a time or fails.
func (s *simulated) begin() {
	s.life++
	life := s.life
	s.pids++
	s.loads++
	pid := s.pids
	if s.gpu = s.placed; s.strays {
		s.gpu = -1
	}
	s.set(supervisor.Loading, "", func(n *supervisor.Snapshot) { n.PID, n.NextStart = pid, time.Time{} })
	time.AfterFunc(s.load, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if life != s.life {
			return
		}
		if len(s.fails) == 0 {
			s.calls.Total += int64(s.calls.ForModel)
			s.calls.ForModel = 0
			s.set(supervisor.Ready, "", func(n *supervisor.Snapshot) { n.LoadDuration = s.load })
			return
		}
		class := s.fails[0]
		s.fails = s.fails[1:]
		if class.Permanent() {
			s.set(supervisor.Failed, string(class), func(n *supervisor.Snapshot) { n.PID = 0 })
			return
		}
		s.set(supervisor.Restarting, string(class), func(n *supervisor.Snapshot) {
			n.PID, n.LastExit, n.NextStart = 0, &supervisor.Exit{Class: class, Cause: string(class)}, time.Now().Add(time.Second)
		})
		time.AfterFunc(time.Second, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if life == s.life {
				s.begin()
			}
		})
	})
}

// Snapshot implements Process.
func (s *simulated) Snapshot() *supervisor.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Processes implements Process.
func (s *simulated) Processes() ([]int, func() bool) { return []int{s.Snapshot().PID}, nil }

// Rebuild implements Process.
func (s *simulated) Rebuild() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rebuild
}

// Load implements Process.
func (s *simulated) Load() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unload = nil
	switch {
	case s.drained:
	case s.now.State == supervisor.Unloaded:
		s.begin()
	case s.now.State == supervisor.Unloading: // its calls have not ended
		s.calls.Total += int64(s.calls.ForModel)
		s.calls.ForModel = 0
		s.set(supervisor.Ready, "", nil)
	}
}

// Unload implements Process. Calls in flight end when they are told to.
func (s *simulated) Unload(d supervisor.DrainOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unload = &d
	if s.drained {
		return
	}
	s.life++
	s.leave()
}

// leave ends the process once there are no calls.
func (s *simulated) leave() {
	switch {
	case s.unload == nil || s.drained:
	case s.calls.InFlight > 0 && s.now.PID != 0:
		s.set(supervisor.Unloading, s.unload.Reason, nil)
	default:
		s.set(supervisor.Unloaded, s.unload.Reason, func(n *supervisor.Snapshot) { n.PID, n.NextStart = 0, time.Time{} })
	}
}

// started returns how often the process was started.
func (s *simulated) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}

func (s *simulated) counted() Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// isAbsent is Server.Absent.
func (s *simulated) isAbsent() (reason string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.absent) {
		return "downloading", s.absent
	}
	return "", time.Time{}
}

// Estimate, Signature, UnreclaimedVRAM, Place and Placements implement VRAM.
func (s *simulated) Estimate()               {}
func (s *simulated) Signature() string       { return "v1" }
func (s *simulated) UnreclaimedVRAM() string { return "" }

func (s *simulated) Place(to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placed = -1
	for i := range s.gpus {
		if uuid(i) == to {
			s.placed = i
		}
	}
}

func (s *simulated) Placements(sample *gpu.Sample, pids []int) (all []placement.Placement, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var shares []placement.Share
	for _, g := range sample.GPUs {
		share := placement.Share{UUID: g.UUID, Need: s.assumed}
		if s.isVRAM {
			share.Need = s.owner.Need(s.name, s.assumed)
		}
		for _, p := range g.Processes {
			if slices.Contains(pids, p.PID) {
				share.Held += *p.Memory
			}
		}
		if !g.Lost {
			shares = append(shares, share)
		}
	}
	if s.gpus == 1 {
		return []placement.Placement{{Shares: shares, Current: true}}, true
	}
	for i, share := range shares {
		all = append(all, placement.Placement{Shares: shares[i : i+1 : i+1], Single: true, Current: s.placed >= 0 && uuid(s.placed) == share.UUID})
	}
	split := slices.Clone(shares)
	for i := range split {
		split[i].Need /= uint64(len(split))
	}
	if len(split) > 1 {
		all = append(all, placement.Placement{Shares: split, Current: s.placed < 0})
	}
	return all, true
}

// call makes a call: it is counted if the model is loaded, and waits for it otherwise, or goes
// to the fallback if there is one.
func (s *simulated) call() {
	s.mu.Lock()
	loaded := s.now.State.Alive()
	switch {
	case loaded:
		s.calls.Total++
	case s.settings.Fallback:
		s.calls.PaidInstead++
		s.calls.ChargedForIt += 0.002
	default:
		if s.calls.ForModel++; s.calls.ForModel == 1 {
			s.calls.Since = time.Now()
		}
	}
	state := s.now.State
	s.mu.Unlock()
	if state == supervisor.Unloaded || state == supervisor.Unloading {
		s.demand.Add(!s.settings.Fallback)
	}
}

// inFlight sets how many calls the server is working on. Without a fallback, no other backend
// can continue them.
func (s *simulated) inFlight(calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls.InFlight = calls
	if !s.settings.Fallback {
		s.calls.Bound = calls
	}
	if s.now.State == supervisor.Unloading {
		s.leave()
	}
}

// drain drains the server as an operator does; otherwise it ends the drain.
func (s *simulated) drain(drain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained = drain
	s.life++
	switch {
	case drain:
		s.set(supervisor.Drained, "an operator has drained it", func(n *supervisor.Snapshot) { n.PID = 0 })
	case s.unload != nil:
		s.leave()
	default:
		s.begin()
	}
}

// want checks the states of all servers, in their order.
func (m *machine) want(states ...supervisor.State) {
	m.t.Helper()
	time.Sleep(2 * stepPause)
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var got []supervisor.State
	lines := ""
	for _, s := range m.servers {
		got = append(got, s.now.State)
		lines += fmt.Sprintf("\n%s is %s: %s", s.name, s.now.State, s.now.Reason)
	}
	if !slices.Equal(got, states) {
		m.t.Fatalf("the states are %v, want %v%s", got, states, lines)
	}
	if m.most > 24*gib {
		m.t.Fatalf("%d bytes of VRAM were held at once", m.most)
	}
}
