package maintenance

import (
	"fmt"

	"github.com/llmsup/llmsup/supervisor"
)

// Phase is how far a server has come on the way that a command sends it: a drain takes it
// out of use, a resume back into use.
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
// A resume ends in removed where a reload has removed the server. Phases may be skipped:
// the snapshots of a server show where it is, and not each change. None is entered again.
type Phase int

// The phases of a drain and of a resume.
const (
	Requested Phase = iota // the command has not reached the server's owner yet
	Draining               // no new calls; those that are running end
	Stopping               // llama-server is ending
	Drained                // it has ended
	Kept                   // no calls are running, and llama-server stays
	Starting               // llama-server is starting or loading
	Verifying              // the process that has stayed has to answer a completion
	InUse                  // it has answered one
	Failed                 // it did not come back
	Removed                // a reload has removed the server, and it has ended
)

var phaseNames = [...]string{
	Requested: "requested", Draining: "draining", Stopping: "stopping", Drained: "drained", Kept: "kept",
	Starting: "starting", Verifying: "verifying", InUse: "in use", Failed: "failed", Removed: "removed",
}

// String returns the phase's name in the diagram.
func (p Phase) String() string {
	if p < 0 || int(p) >= len(phaseNames) {
		return fmt.Sprintf("Phase(%d)", int(p))
	}
	return phaseNames[p]
}

// command is what an operator has asked for.
type command int

const (
	drainCommand command = iota
	resumeCommand
)

// completion is the answer to the request that verifies a process.
type completion int

const (
	notAsked completion = iota
	answered
	unanswered
)

// view is what the next phase depends on.
type view struct {
	state      supervisor.State
	running    bool // llama-server runs
	ending     bool // it has ended or is being ended
	keep       bool // the drain keeps it
	same       bool // it is the process of before the command
	exited     bool // a process has ended since the command
	removed    bool // a reload has removed the server
	completion completion
}

// next is the phase after a view of the server. It is pure.
func (p Phase) next(c command, v view) Phase {
	if p.over() {
		return p
	}
	if c == drainCommand {
		return p.afterDrain(v)
	}
	return p.afterResume(v)
}

// over says whether the command is done for the server.
func (p Phase) over() bool {
	switch p {
	case Drained, Kept, InUse, Failed, Removed:
		return true
	default:
		return false
	}
}

func (p Phase) afterDrain(v view) Phase {
	switch {
	case v.state == supervisor.Drained && v.running && v.keep:
		return Kept
	case v.state == supervisor.Drained && !v.running, v.state == supervisor.Stopped:
		return Drained
	case v.state != supervisor.Draining: // the request has not reached its owner yet
		return p
	case v.running && v.ending, p == Stopping:
		return Stopping
	}
	return Draining
}

func (p Phase) afterResume(v view) Phase {
	switch {
	case p == Verifying && v.completion == answered:
		return InUse
	case p == Verifying && v.completion == unanswered:
		return Failed
	case p == Verifying:
		return p
	case v.state.Alive() && v.same: // its load has not verified it
		return Verifying
	case v.state.Alive():
		return InUse
	case v.state == supervisor.Failed, v.exited:
		return Failed
	case v.state == supervisor.Stopped && v.removed:
		return Removed
	case v.state == supervisor.Draining, v.state == supervisor.Drained && !v.running: // the request has not reached its owner yet
		return p
	}
	return Starting
}
