package supervisor

import (
	"fmt"
	"slices"
)

// State is what a local server is doing. Its names are part of the contract with
// users: status, /health and the log have them.
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
// restarting is the pause between an exit that no command caused and the next start;
// failed is where starts have been given up; an operator asks for draining and
// drained, also before llmsup starts. A drained server that has kept its process
// returns to ready or degraded without a start, or to restarting if the process has
// ended or answers no test call.
//
// unloading and unloaded are to draining and drained what the scheduler of models on
// demand is to an operator: a call brings the server back, and no drain is in force. An
// operator's drain prevails, so that unloading may become draining, and unloaded and
// drained each other. The process of an engine that sleeps stays while it is unloaded: it
// goes to loading without a start, and to draining or unloading when the process ends.
type State int

// The states of a local server.
const (
	Stopped    State = iota // no process, and none is to be started
	Starting                // about to start the process, or waiting for what it needs
	Loading                 // the process runs and does not answer yet
	Ready                   // it answers
	Degraded                // it answers, but another backend should get the calls where there is one
	Draining                // no new calls; when those in flight have ended, the process is stopped
	Drained                 // an operator has taken it out of use until it is resumed
	Restarting              // the process exited; the next start follows after a pause
	Failed                  // the process exited, and another start would fail in the same way
	Unloading               // no new calls; when those in flight have ended, the process is stopped to free its VRAM
	Unloaded                // no process until a call needs the model
)

var stateNames = [...]string{
	Stopped: "stopped", Starting: "starting", Loading: "loading", Ready: "ready", Degraded: "degraded",
	Draining: "draining", Drained: "drained", Restarting: "restarting", Failed: "failed", Unloading: "unloading", Unloaded: "unloaded",
}

// States lists all states.
var States = []State{Stopped, Starting, Loading, Ready, Degraded, Draining, Drained, Restarting, Failed, Unloading, Unloaded}

// String returns the state's name in the contract.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return stateNames[s]
}

// Alive reports whether a server in this state answers calls.
func (s State) Alive() bool { return s == Ready || s == Degraded }

// successors has, for every state, the states that may follow it. A state may
// always follow itself, with another reason.
var successors = [...][]State{
	Stopped:    {Starting, Drained, Unloaded},
	Starting:   {Loading, Restarting, Failed, Draining, Unloading, Stopped},
	Loading:    {Ready, Degraded, Restarting, Failed, Draining, Unloading, Stopped},
	Ready:      {Degraded, Restarting, Failed, Draining, Unloading, Stopped},
	Degraded:   {Ready, Restarting, Failed, Draining, Unloading, Stopped},
	Draining:   {Drained, Ready, Degraded, Starting, Restarting, Unloading, Unloaded, Stopped},
	Drained:    {Starting, Ready, Degraded, Restarting, Draining, Unloaded, Stopped},
	Restarting: {Starting, Failed, Draining, Unloading, Stopped},
	Failed:     {Starting, Draining, Unloading, Stopped},
	Unloading:  {Unloaded, Ready, Degraded, Starting, Restarting, Draining, Drained, Stopped},
	Unloaded:   {Starting, Loading, Drained, Draining, Unloading, Stopped},
}

// mayFollow reports whether a server may go from one state to another.
func mayFollow(from, to State) bool {
	if from == to {
		return true
	}
	return slices.Contains(successors[from], to)
}
