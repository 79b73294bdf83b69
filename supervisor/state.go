package supervisor

import (
	"fmt"
	"slices"
)

// State is what a local server is doing. Its names are part of the contract
// with users: they stand in status, in /health and in the log.
//
//	             +-----------------------------------------------+
//	             v                                               |
//	stopped -> starting -> loading -> ready <-> degraded         |
//	   ^          |  ^        |         |           |            |
//	   |          |  |        +----+----+-----------+            |
//	   |          |  |             |    |                        |
//	   |          v  |             v    v                        |
//	   |       failed <------ restarting   draining <-> drained -+
//	   |                           |           |
//	   +---------------------------+-----------+   (any state may go to stopped,
//	                                                when llmsup itself ends)
//
// restarting is the pause between an exit that nobody asked for and the next
// start; failed is the end of trying; draining and drained are what an
// operator asked for, at llmsup's own start too. One that is drained and has kept
// its process goes back to ready or degraded without a start, or to restarting if
// that has ended, or answers nothing.
type State int

// The states of a local server.
const (
	Stopped    State = iota // no process, and none wanted
	Starting                // about to start the process, or waiting for what it needs
	Loading                 // the process runs and does not answer yet
	Ready                   // it answers
	Degraded                // it answers, but should not be given work that somebody else can do
	Draining                // no new calls; the running ones end, then the process is stopped
	Drained                 // stopped by an operator; stays so until resumed
	Restarting              // it ended unasked; the next start is due after a pause
	Failed                  // it ended unasked, and another start would end the same way
)

var stateNames = [...]string{
	Stopped: "stopped", Starting: "starting", Loading: "loading", Ready: "ready", Degraded: "degraded",
	Draining: "draining", Drained: "drained", Restarting: "restarting", Failed: "failed",
}

// States are all of them.
var States = []State{Stopped, Starting, Loading, Ready, Degraded, Draining, Drained, Restarting, Failed}

// String returns the state's name in the contract.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return stateNames[s]
}

// Alive says whether a server in this state answers calls.
func (s State) Alive() bool { return s == Ready || s == Degraded }

// successors lists, for every state, the states that may follow it. Staying in
// a state with another reason is always allowed.
var successors = [...][]State{
	Stopped:    {Starting, Drained},
	Starting:   {Loading, Restarting, Failed, Draining, Stopped},
	Loading:    {Ready, Degraded, Restarting, Failed, Draining, Stopped},
	Ready:      {Degraded, Restarting, Failed, Draining, Stopped},
	Degraded:   {Ready, Restarting, Failed, Draining, Stopped},
	Draining:   {Drained, Ready, Degraded, Starting, Restarting, Stopped},
	Drained:    {Starting, Ready, Degraded, Restarting, Draining, Stopped},
	Restarting: {Starting, Failed, Draining, Stopped},
	Failed:     {Starting, Draining, Stopped},
}

// mayFollow says whether a server may go from one state to another.
func mayFollow(from, to State) bool {
	if from == to {
		return true
	}
	return slices.Contains(successors[from], to)
}
