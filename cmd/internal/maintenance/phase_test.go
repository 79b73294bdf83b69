package maintenance

import (
	"slices"
	"testing"

	"github.com/llmsup/llmsup/supervisor"
)

// views are all that a server may look like.
func views() (all []observation) {
	either := []bool{false, true}
	for _, state := range supervisor.States {
		for _, running := range either {
			for _, ending := range either {
				for _, keep := range either {
					for _, same := range either {
						for _, exited := range either {
							for _, removed := range either {
								for _, c := range []testCall{notAsked, answered, unanswered} {
									all = append(all, observation{state, running, ending, keep, same, exited, removed, c})
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// TestEveryPairOfPhases holds the diagram on Phase: for each phase and command, exactly
// these may follow it, whatever the server looks like.
func TestEveryPairOfPhases(t *testing.T) {
	resumed := []Phase{Starting, Verifying, InUse, Unloaded, Failed, Removed}
	follows := map[command]map[Phase][]Phase{
		drainCommand: {
			Requested: {Draining, Stopping, Drained, Kept},
			Draining:  {Stopping, Drained, Kept},
			Stopping:  {Drained, Kept}, // it may end by itself, and a process be kept again
			Drained:   nil, Kept: nil, InUse: nil, Unloaded: nil, Failed: nil, Removed: nil,
		},
		resumeCommand: {
			Requested: resumed,
			Starting:  resumed,
			Verifying: {InUse, Failed},
			Drained:   nil, Kept: nil, InUse: nil, Unloaded: nil, Failed: nil, Removed: nil,
		},
	}
	for c, table := range follows {
		for from, want := range table {
			got := map[Phase]bool{}
			for _, v := range views() {
				got[from.next(c, v)] = true
			}
			for to := range Phase(len(phaseNames)) {
				allowed := to == from || slices.Contains(want, to)
				if got[to] && !allowed {
					t.Errorf("command %d: %s follows %s", c, to, from)
				}
				if !got[to] && allowed && to != from {
					t.Errorf("command %d: %s never follows %s", c, to, from)
				}
			}
		}
	}
}

// TestNext: the phase after each observation of a server.
func TestNext(t *testing.T) {
	for name, tc := range map[string]struct {
		command command
		views   []observation
		want    []Phase
	}{
		"drained": {
			drainCommand,
			[]observation{{state: supervisor.Ready, running: true}, {state: supervisor.Draining, running: true}, {state: supervisor.Draining, running: true, exiting: true}, {state: supervisor.Draining}, {state: supervisor.Drained}},
			[]Phase{Requested, Draining, Stopping, Stopping, Drained},
		},
		"drained, and the process stays": {
			drainCommand,
			[]observation{{state: supervisor.Ready, running: true, keep: true}, {state: supervisor.Draining, running: true, keep: true}, {state: supervisor.Drained, running: true, keep: true}},
			[]Phase{Requested, Draining, Kept},
		},
		"a kept process is to end": {
			drainCommand,
			[]observation{{state: supervisor.Drained, running: true}, {state: supervisor.Draining, running: true}, {state: supervisor.Drained}},
			[]Phase{Requested, Draining, Drained},
		},
		"drained while it was starting": {
			drainCommand,
			[]observation{{state: supervisor.Starting}, {state: supervisor.Drained}},
			[]Phase{Requested, Drained},
		},
		"started again": {
			resumeCommand,
			[]observation{{state: supervisor.Drained, same: true}, {state: supervisor.Starting, same: true}, {state: supervisor.Loading, running: true}, {state: supervisor.Ready, running: true}},
			[]Phase{Requested, Starting, Starting, InUse},
		},
		"its model is loaded on demand": {
			resumeCommand,
			[]observation{{state: supervisor.Drained}, {state: supervisor.Unloaded}, {state: supervisor.Ready, running: true}},
			[]Phase{Requested, Unloaded, Unloaded},
		},
		"it was being unloaded": {
			resumeCommand,
			[]observation{{state: supervisor.Draining, running: true}, {state: supervisor.Unloading, running: true}, {state: supervisor.Unloaded}},
			[]Phase{Requested, Requested, Unloaded},
		},
		"the process has stayed": {
			resumeCommand,
			[]observation{{state: supervisor.Drained, running: true, same: true}, {state: supervisor.Ready, running: true, same: true}, {state: supervisor.Ready, running: true, same: true, testCall: answered}},
			[]Phase{Starting, Verifying, InUse},
		},
		"the process that has stayed does not answer": {
			resumeCommand,
			[]observation{{state: supervisor.Degraded, running: true, same: true}, {state: supervisor.Degraded, running: true, same: true, testCall: unanswered}},
			[]Phase{Verifying, Failed},
		},
		"the new process ends": {
			resumeCommand,
			[]observation{{state: supervisor.Loading, running: true}, {state: supervisor.Restarting, exited: true}, {state: supervisor.Ready, running: true}},
			[]Phase{Starting, Failed, Failed},
		},
		"removed meanwhile": {
			resumeCommand,
			[]observation{{state: supervisor.Draining, running: true, removed: true}, {state: supervisor.Stopped, removed: true}},
			[]Phase{Requested, Removed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			phase := Requested
			for i, v := range tc.views {
				if phase = phase.next(tc.command, v); phase != tc.want[i] {
					t.Fatalf("after view %d it is %s, want %s", i, phase, tc.want[i])
				}
			}
		})
	}
}

func TestPhaseNames(t *testing.T) {
	if got := InUse.String() + ", " + Phase(99).String(); got != "in use, Phase(99)" {
		t.Error(got)
	}
}
