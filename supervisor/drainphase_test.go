package supervisor

import "testing"

// TestEveryDrainTransition checks the diagram on drainPhase: for each phase, event
// and goal, exactly this phase follows.
func TestEveryDrainTransition(t *testing.T) {
	const phases, events, goals = ending + 1, verifyFailed + 1, goalEnd + 1
	// In the order of the events: commandsChanged, callsEnded, verified, verifyFailed.
	follows := map[drainPhase]map[drainGoal][events]drainPhase{
		inUse: {
			goalUse:  {inUse, inUse, inUse, inUse},
			goalKeep: {draining, draining, draining, draining},
			goalEnd:  {draining, draining, draining, draining},
		},
		draining: {
			goalUse:  {inUse, inUse, inUse, inUse},
			goalKeep: {draining, kept, draining, draining},
			goalEnd:  {draining, ending, draining, draining},
		},
		kept: {
			goalUse:  {verifying, verifying, verifying, verifying},
			goalKeep: {kept, kept, kept, kept},
			goalEnd:  {ending, ending, ending, ending},
		},
		verifying: {
			goalUse:  {verifying, verifying, inUse, ending},
			goalKeep: {kept, kept, kept, kept},
			goalEnd:  {ending, ending, ending, ending},
		},
		ending: {
			goalUse:  {ending, ending, ending, ending},
			goalKeep: {ending, ending, ending, ending},
			goalEnd:  {ending, ending, ending, ending},
		},
	}
	if len(drainPhaseNames) != int(phases) {
		t.Fatalf("%d names of %d phases", len(drainPhaseNames), phases)
	}
	for from := range phases {
		for goal := range goals {
			for event := range events {
				if got, want := from.next(event, goal), follows[from][goal][event]; got != want {
					t.Errorf("%s, event %d, goal %d: %s follows, want %s", from, event, goal, got, want)
				}
			}
		}
	}
}

func TestGoalOf(t *testing.T) {
	restart, drain, keep := command{replace: true}, &DrainOptions{}, &DrainOptions{Keep: true}
	for name, tc := range map[string]struct {
		command command
		drain   *DrainOptions
		want    drainGoal
	}{
		"nothing":                   {command{}, nil, goalUse},
		"an updated Spec":           {command{spec: &Spec{}}, nil, goalUse},
		"restart":                   {restart, nil, goalEnd},
		"drain":                     {command{}, drain, goalEnd},
		"drain that keeps":          {command{}, keep, goalKeep},
		"restart prevails over all": {restart, keep, goalEnd},
	} {
		if got := goalOf(tc.command, tc.drain); got != tc.want {
			t.Errorf("%s: goal %d, want %d", name, got, tc.want)
		}
	}
}
