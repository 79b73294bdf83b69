package supervisor

import "testing"

// TestEveryDrainTransition checks the diagram on drainPhase: for each phase, event
// and goal, exactly this phase follows.
func TestEveryDrainTransition(t *testing.T) {
	const phases, events, goals = sleeping + 1, sleepFailed + 1, goalSleep + 1
	// In the order of the events: commandsChanged, callsEnded, verified, verifyFailed, slept, sleepFailed.
	follows := map[drainPhase]map[drainGoal][events]drainPhase{
		inUse: {
			goalUse:   {inUse, inUse, inUse, inUse, inUse, inUse},
			goalKeep:  {draining, draining, draining, draining, draining, draining},
			goalEnd:   {draining, draining, draining, draining, draining, draining},
			goalSleep: {draining, draining, draining, draining, draining, draining},
		},
		draining: {
			goalUse:   {inUse, inUse, inUse, inUse, inUse, inUse},
			goalKeep:  {draining, kept, draining, draining, draining, draining},
			goalEnd:   {draining, ending, draining, draining, draining, draining},
			goalSleep: {draining, sleeping, draining, draining, draining, draining},
		},
		kept: {
			goalUse:   {verifying, verifying, verifying, verifying, verifying, verifying},
			goalKeep:  {kept, kept, kept, kept, kept, kept},
			goalEnd:   {ending, ending, ending, ending, ending, ending},
			goalSleep: {kept, kept, kept, kept, kept, kept},
		},
		verifying: {
			goalUse:   {verifying, verifying, inUse, ending, verifying, verifying},
			goalKeep:  {kept, kept, kept, kept, kept, kept},
			goalEnd:   {ending, ending, ending, ending, ending, ending},
			goalSleep: {verifying, verifying, draining, ending, verifying, verifying},
		},
		sleeping: {
			goalUse:   {sleeping, sleeping, sleeping, sleeping, verifying, ending},
			goalKeep:  {sleeping, sleeping, sleeping, sleeping, kept, ending},
			goalEnd:   {sleeping, sleeping, sleeping, sleeping, ending, ending},
			goalSleep: {sleeping, sleeping, sleeping, sleeping, kept, ending},
		},
		ending: {
			goalUse:   {ending, ending, ending, ending, ending, ending},
			goalKeep:  {ending, ending, ending, ending, ending, ending},
			goalEnd:   {ending, ending, ending, ending, ending, ending},
			goalSleep: {ending, ending, ending, ending, ending, ending},
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
	restart, drain, keep, unload := command{replace: true}, &DrainOptions{}, &DrainOptions{Keep: true}, &DrainOptions{unload: true}
	for name, tc := range map[string]struct {
		command command
		drain   *DrainOptions
		sleeps  bool
		want    drainGoal
	}{
		"nothing":                   {command{}, nil, false, goalUse},
		"an updated Spec":           {command{spec: &Spec{}}, nil, false, goalUse},
		"restart":                   {restart, nil, false, goalEnd},
		"drain":                     {command{}, drain, false, goalEnd},
		"drain that keeps":          {command{}, keep, false, goalKeep},
		"unload":                    {command{}, unload, false, goalEnd},
		"unload, and it sleeps":     {command{}, unload, true, goalSleep},
		"drain, and it sleeps":      {command{}, drain, true, goalEnd},
		"restart, and it sleeps":    {restart, unload, true, goalEnd},
		"restart prevails over all": {restart, keep, false, goalEnd},
	} {
		if got := goalOf(tc.command, tc.drain, tc.sleeps); got != tc.want {
			t.Errorf("%s: goal %d, want %d", name, got, tc.want)
		}
	}
}
