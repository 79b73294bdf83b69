package maintenance

import (
	"fmt"

	"github.com/llmsup/llmsup/supervisor"
)

// Phase is the progress of a server in a drain, which takes it out of use, or in a resume,
// which takes it back into use.
//
//	drain:   requested -> draining -> stopping -> drained
//	                          |
//	                          +-----------------> kept
//
//	resume:  requested -> starting -----+-------> in use
//	             |           |          |
//	             |           v          |
//	             +------> verifying ----+-------> failed
//
// A resume ends in unloaded if the server's model is loaded on demand, and in removed if a
// reload has removed the server. Phases may be skipped,
// since a server's snapshots show its state, not each change. No phase is entered twice.
type Phase int

// The phases of a drain and of a resume.
const (
	Requested Phase = iota // the command has not reached the server's owner yet
	Draining               // no new calls; running calls end
	Stopping               // llama-server is stopping
	Drained                // it has ended
	Kept                   // no calls are running, and llama-server stays
	Starting               // llama-server is starting or loading
	Verifying              // a kept process has to answer a test call
	InUse                  // it has answered one
	Unloaded               // it has no process until a call needs it
	Failed                 // it did not return to use
	Removed                // a reload has removed the server, and it has ended
)

var phaseNames = [...]string{
	Requested: "requested", Draining: "draining", Stopping: "stopping", Drained: "drained", Kept: "kept",
	Starting: "starting", Verifying: "verifying", InUse: "in use", Unloaded: "unloaded", Failed: "failed", Removed: "removed",
}

// String returns the phase's name in the diagram.
func (p Phase) String() string {
	if p < 0 || int(p) >= len(phaseNames) {
		return fmt.Sprintf("Phase(%d)", int(p))
	}
	return phaseNames[p]
}

// command is an operator's command.
type command int

const (
	drainCommand command = iota
	resumeCommand
)

// testCall is the result of the call that verifies a process.
type testCall int

const (
	notAsked testCall = iota
	answered
	unanswered
)

// observation is what the next phase depends on.
type observation struct {
	state    supervisor.State
	running  bool // llama-server runs
	exiting  bool // it has ended or is stopping
	keep     bool // the drain keeps the process
	same     bool // the process is the one from before the command
	exited   bool // a process has ended since the command
	removed  bool // a reload has removed the server
	testCall testCall
}

// next returns the phase after an observation of the server. It is pure.
func (p Phase) next(c command, v observation) Phase {
	if p.final() {
		return p
	}
	if c == drainCommand {
		return p.afterDrain(v)
	}
	return p.afterResume(v)
}

// final reports whether the command is done for the server.
func (p Phase) final() bool {
	switch p {
	case Drained, Kept, InUse, Unloaded, Failed, Removed:
		return true
	default:
		return false
	}
}

func (p Phase) afterDrain(v observation) Phase {
	switch {
	case v.state == supervisor.Drained && v.running && v.keep:
		return Kept
	case v.state == supervisor.Drained && !v.running, v.state == supervisor.Stopped:
		return Drained
	case v.state != supervisor.Draining: // the request has not reached its owner yet
		return p
	case v.running && v.exiting, p == Stopping:
		return Stopping
	}
	return Draining
}

func (p Phase) afterResume(v observation) Phase {
	switch {
	case p == Verifying && v.testCall == answered:
		return InUse
	case p == Verifying && v.testCall == unanswered:
		return Failed
	case p == Verifying:
		return p
	case v.state.Alive() && v.same: // it was not verified after loading
		return Verifying
	case v.state.Alive():
		return InUse
	case v.state == supervisor.Unloaded:
		return Unloaded
	case v.state == supervisor.Failed, v.exited:
		return Failed
	case v.state == supervisor.Stopped && v.removed:
		return Removed
	case v.state == supervisor.Draining, v.state == supervisor.Unloading, v.state == supervisor.Drained && !v.running: // the request has not reached its owner yet
		return p
	}
	return Starting
}
