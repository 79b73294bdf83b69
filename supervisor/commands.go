package supervisor

import "sync"

// Commands to a server are stored for its owner goroutine and never block; their
// effect shows in the snapshots.

// command is what callers want of a server and its owner has not done yet. It
// persists across exits of the process. A newer command on the same matter replaces
// the older one.
type command struct {
	replace bool  // another process, or with remove none
	changed bool  // because what to run has changed
	remove  bool  // it is no longer configured
	spec    *Spec // what to run from the next start on; nil = as now
}

// reason returns why the process is replaced, for a snapshot.
func (c command) reason() string {
	switch {
	case c.remove:
		return "it is no longer in the configuration"
	case c.changed:
		return "its configuration has changed"
	}
	return "a restart was asked for"
}

// commandBox holds what callers want until the owner takes it.
type commandBox struct {
	mu      sync.Mutex
	waiting command
	drain   *DrainOptions // in force until Resume, whatever else is commanded; nil = none
	unload  *DrainOptions // in force until Load; nil = none
	pending chan struct{} // receives when there is a new command
}

// set changes the waiting command.
func (b *commandBox) set(change func(*command)) {
	b.mu.Lock()
	change(&b.waiting)
	b.mu.Unlock()
	notify(b.pending)
}

// peek returns the waiting command.
func (b *commandBox) peek() command {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// take returns the waiting command and removes it from the box.
func (b *commandBox) take() command {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.waiting
	b.waiting = command{}
	return taken
}

// setDrain puts a drain into force; nil ends it.
func (b *commandBox) setDrain(d *DrainOptions) {
	b.mu.Lock()
	b.drain = d
	b.mu.Unlock()
	notify(b.pending)
}

// setUnload puts an unload into force; nil ends it.
func (b *commandBox) setUnload(d *DrainOptions) {
	b.mu.Lock()
	b.unload = d
	b.mu.Unlock()
	notify(b.pending)
}

// drainRequest returns the drain in force, else the unload; nil = the server is in use.
func (b *commandBox) drainRequest() *DrainOptions {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drain != nil {
		return b.drain
	}
	return b.unload
}

// notify makes a channel with room for one receive, unless it has something to
// receive already.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Restart replaces the process. A running server gets no new calls from now on, is
// stopped when its calls have ended, and started again; one that waits for its next
// start, or has given up, starts at once. Its earlier failures no longer count.
func (s *Server) Restart() { s.commands.set(func(c *command) { c.replace = true }) }

// Reconfigure is Restart with another Spec. Name and Dir stay. It takes Remove back.
func (s *Server) Reconfigure(spec Spec) {
	spec = s.adopt(spec)
	s.commands.set(func(c *command) { *c = command{replace: true, changed: true, spec: &spec} })
}

// UpdateSpec changes what to run from the next start on, whenever that is.
func (s *Server) UpdateSpec(spec Spec) {
	spec = s.adopt(spec)
	s.commands.set(func(c *command) { c.spec = &spec })
}

// adopt gives a Spec this server's name and folder, and its defaults.
func (s *Server) adopt(spec Spec) Spec {
	spec.Name, spec.Dir = s.name, s.dir
	return spec.withDefaults()
}

// Remove stops the server for good when its calls have ended. Run continues, in
// state stopped, until its context ends.
func (s *Server) Remove() {
	s.commands.set(func(c *command) { c.replace, c.remove = true, true })
}

// SetHealth degrades a server that answers, for as long as reason is not "": the
// router then bypasses it where another backend can serve the call.
func (s *Server) SetHealth(reason string) {
	if old := s.health.Swap(&reason); old != nil && *old == reason {
		return
	}
	notify(s.healthChanged)
}

// degradedReason returns the reason of the last SetHealth.
func (s *Server) degradedReason() string {
	if reason := s.health.Load(); reason != nil {
		return *reason
	}
	return ""
}

// killRequest is the request to end one process.
type killRequest struct {
	pid  int
	exit *Exit
}

// Kill ends a process that is known to be beyond recovery, without waiting for its
// calls. It does nothing if that process has ended already.
func (s *Server) Kill(pid int, class Class, cause string) {
	s.killRequest.Store(&killRequest{pid, &Exit{Class: class, Cause: cause}})
	notify(s.killRequested)
}

// takeKillRequest returns why a process is to be killed; nil = it is not.
func (s *Server) takeKillRequest(pid int) *Exit {
	if request := s.killRequest.Swap(nil); request != nil && request.pid == pid {
		return request.exit
	}
	return nil
}
