package supervisor

import "sync"

// What others want of a server. Each word is left where the owner finds it, and
// nobody waits for it to be heard: the snapshots tell.

// order is what is wanted of a server until it is done: it stands, whatever
// becomes of the process meanwhile. The newest word on each matter counts.
type order struct {
	replace bool  // another process, or with retire none
	changed bool  // because what is to be run has changed
	spec    *Spec // what to run from the next start on; nil = as now
	retire  bool
}

// orders is where an order waits.
type orders struct {
	mu      sync.Mutex
	waiting order
	hold    *DrainOptions // stands until it is taken back, whatever else is ordered; nil = none
	came    chan struct{} // receives when there may be news
}

func (o *orders) give(change func(*order)) {
	o.mu.Lock()
	change(&o.waiting)
	o.mu.Unlock()
	notify(o.came)
}

// now returns the order that stands.
func (o *orders) now() order {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting
}

// take returns the order that stands, to be carried out.
func (o *orders) take() order {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.waiting
	o.waiting = order{}
	return taken
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // so it is already
	}
}

// words says what an order is about.
func (o order) words() string {
	switch {
	case o.retire:
		return "it is no longer in the configuration"
	case o.changed:
		return "its configuration has changed"
	}
	return "a restart was asked for"
}

// Restart asks for a new process. A server that runs gets no new calls from now
// on, is stopped when the ones it has have ended, and started again; one that
// waits for its next start, or has given up, starts at once. Its failures are
// forgotten.
func (s *Server) Restart() { s.orders.give(func(o *order) { o.replace = true }) }

// Reconfigure is Restart with something else to run from then on. Name and Dir
// stay as they are. It takes Remove back.
func (s *Server) Reconfigure(spec Spec) {
	spec = s.own(spec)
	s.orders.give(func(o *order) { *o = order{replace: true, changed: true, spec: &spec} })
}

// UpdateSpec changes what to run from the next start on, whenever that is.
func (s *Server) UpdateSpec(spec Spec) {
	spec = s.own(spec)
	s.orders.give(func(o *order) { o.spec = &spec })
}

// own makes a Spec this server's.
func (s *Server) own(spec Spec) Spec {
	spec.Name, spec.Dir = s.name, s.dir
	return spec.withDefaults()
}

// Remove stops the server for good when the calls that it has have ended. Run
// goes on, in state stopped, until its context ends.
func (s *Server) Remove() {
	s.orders.give(func(o *order) { o.replace, o.retire = true, true })
}

// SetHealth says why the server, though it answers, should not be given work
// that others can do: it is degraded for as long as the reason is not "".
func (s *Server) SetHealth(reason string) {
	if old := s.health.Swap(&reason); old != nil && *old == reason {
		return
	}
	notify(s.judged)
}

// Kill ends a process of which it is known from outside that it can't go on:
// at once, and not when its calls have ended. A process that is gone already is
// not meant.
func (s *Server) Kill(pid int, class Class, cause string) {
	s.condemned.Store(&sentence{pid, &Exit{Class: class, Cause: cause}})
	notify(s.sentenced)
}

// sentence is a verdict from outside on one process.
type sentence struct {
	pid  int
	exit *Exit
}

// sentenceOn returns what a process was condemned for; nil = it was not.
func (s *Server) sentenceOn(pid int) *Exit {
	if given := s.condemned.Swap(nil); given != nil && given.pid == pid {
		return given.exit
	}
	return nil
}

// unhealthy returns the reason of the last SetHealth.
func (s *Server) unhealthy() string {
	if reason := s.health.Load(); reason != nil {
		return *reason
	}
	return ""
}

// enterAlive enters ready or degraded, as the last word on its health says.
func (s *Server) enterAlive(edit func(*Snapshot)) {
	was, reason := s.snap.Load().State, s.unhealthy()
	if reason == "" {
		s.enter(Ready, "", edit)
		if was == Degraded {
			s.log.Info().Msg("llama-server is no longer degraded")
		}
		return
	}
	s.enter(Degraded, reason, edit)
	if was != Degraded {
		s.log.Warn().Msg("llama-server is degraded, and passed over where a call can go elsewhere: " + reason)
	}
}

// Processes returns the present process and what runs below it, and whether one
// of them has a GPU's device open; none where no process runs.
func (s *Server) Processes() (pids []int, gpuOpen func() bool) {
	now := s.snap.Load()
	if now.PID == 0 {
		return nil, func() bool { return false }
	}
	pids = []int{now.PID}
	if !now.Direct {
		pids = withMembers(now.PID)
	}
	return pids, func() bool { return usesGPU(pids) }
}
