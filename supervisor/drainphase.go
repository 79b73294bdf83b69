package supervisor

import "fmt"

// drainPhase is how far a ready process is on its way out of use, and back into
// it. The states Draining, Drained and Ready of the server follow from it.
//
//	         drain, restart,             no calls left,
//	         reload or remove            and it is to be kept
//	+-------+            +----------+                        +------+
//	| inUse | ---------> | draining | ---------------------> | kept |
//	+-------+            +----------+                        +------+
//	  ^   ^   withdrawn    |      |                            |  ^ |
//	  |   +----------------+      | no calls left       resume |  | | not to be
//	  |                           v                            |  | | kept after all
//	  |                        +--------+ <--------------------|--|-+
//	  |                        | ending | <----------+         |  | drain
//	  |                        +--------+            |         v  |
//	  |                       no answer,             |    +-----------+
//	  |                       or not to be kept      +--- | verifying |
//	  +-------------------------------------------------- +-----------+
//	                     it answered a test call
type drainPhase int

const (
	inUse     drainPhase = iota // it gets calls
	draining                    // it gets no new calls; those that it has may end
	kept                        // it has no calls, and stays with the VRAM that it holds
	verifying                   // it is to be used again, and has to answer a test call first
	ending                      // it is to be stopped now
)

var drainPhaseNames = [...]string{inUse: "inUse", draining: "draining", kept: "kept", verifying: "verifying", ending: "ending"}

// String returns the phase's name.
func (p drainPhase) String() string {
	if p < 0 || int(p) >= len(drainPhaseNames) {
		return fmt.Sprintf("drainPhase(%d)", int(p))
	}
	return drainPhaseNames[p]
}

// drainEvent is what may change a drainPhase.
type drainEvent int

const (
	commandsChanged drainEvent = iota
	callsEnded                 // or have had the time that they were given
	verified                   // a test call was answered
	verifyFailed
)

// drainGoal is what the commands want to become of a ready process.
type drainGoal int

const (
	goalUse  drainGoal = iota
	goalKeep           // drained, with its process
	goalEnd            // drained without its process, replaced or removed
)

// goalOf returns what the commands want. A replacement prevails over a drain, which
// takes effect again on the next process.
func goalOf(c command, d *DrainOptions) drainGoal {
	switch {
	case c.replace:
		return goalEnd
	case d == nil:
		return goalUse
	case d.Keep:
		return goalKeep
	}
	return goalEnd
}

// next returns the phase that follows. An event that does not belong to the phase
// is late and counts as commandsChanged.
func (p drainPhase) next(event drainEvent, goal drainGoal) drainPhase {
	switch p {
	case inUse:
		if goal != goalUse {
			return draining
		}
	case draining:
		switch {
		case goal == goalUse:
			return inUse
		case event != callsEnded:
			return draining
		case goal == goalKeep:
			return kept
		default:
			return ending
		}
	case kept, verifying:
		switch {
		case goal == goalEnd:
			return ending
		case goal == goalKeep:
			return kept
		case p == verifying && event == verified:
			return inUse
		case p == verifying && event == verifyFailed:
			return ending
		default:
			return verifying
		}
	case ending:
	}
	return p
}
