package supervisor

// What others want of a server. Each word is left where the owner finds it, and
// nobody waits for it to be heard: the snapshots tell.

// Restart asks for a new process. A server that runs gets no new calls from now
// on, is stopped when the ones it has have ended, and started again; one that
// waits for its next start, or has given up, starts at once. Its failures are
// forgotten.
func (s *Server) Restart() {
	select {
	case s.asked <- struct{}{}:
	default: // asked already
	}
}

// Reconfigure is Restart with something else to run from then on. Name and Dir
// stay as they are.
func (s *Server) Reconfigure(spec Spec) {
	spec = spec.withDefaults()
	spec.Name, spec.Dir = s.name, s.dir
	s.next.Store(&spec)
	s.Restart()
}

// Retire ends the server for good: when the calls that it has have ended, it is
// stopped and Run returns.
func (s *Server) Retire() {
	s.retiring.Store(true)
	s.Restart()
}

// SetHealth says why the server, though it answers, should not be given work
// that others can do: it is degraded for as long as the reason is not "".
func (s *Server) SetHealth(reason string) {
	if old := s.health.Swap(&reason); old != nil && *old == reason {
		return
	}
	select {
	case s.judged <- struct{}{}:
	default:
	}
}

// Condemn ends a process of which it is known from outside that it can't go on:
// at once, and not when its calls have ended. A process that is gone already is
// not meant.
func (s *Server) Condemn(pid int, class Class, cause string) {
	select {
	case s.condemned <- sentence{pid, &Exit{Class: class, Cause: cause}}:
	default: // so is it already
	}
}

// sentence is a verdict from outside on one process.
type sentence struct {
	pid  int
	exit *Exit
}

// takeOrders makes what was said so far hold for the next start: it is what the
// present order, if there is one, was about.
func (s *Server) takeOrders() {
	select {
	case <-s.asked:
	default:
	}
	if next := s.next.Swap(nil); next != nil {
		s.spec = *next
	}
}

// orderWords says what the order that has come in is about.
func (s *Server) orderWords() string {
	switch {
	case s.retiring.Load():
		return "it is no longer in the configuration"
	case s.next.Load() != nil:
		return "its configuration has changed"
	}
	return "a restart was asked for"
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
	if reason := s.unhealthy(); reason != "" {
		s.enter(Degraded, reason, edit)
		return
	}
	s.enter(Ready, "", edit)
}
