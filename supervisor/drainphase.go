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
//
// An engine that can sleep is to be kept when its model is unloaded. It goes from draining
// to sleeping, and from there to kept once it has released its VRAM, or to ending if it has
// not. Neither that nor verifying, which wakes it, is cut short by another command but the
// end of the process: nothing would be known of its VRAM.
type drainPhase int

const (
	inUse     drainPhase = iota // it gets calls
	draining                    // it gets no new calls; those that it has may end
	kept                        // it has no calls, and stays with the VRAM that it holds
	verifying                   // it is to be used again, and has to answer a test call first
	ending                      // it is to be stopped now
	sleeping                    // it has no calls, and releases its VRAM
)

var drainPhaseNames = [...]string{inUse: "inUse", draining: "draining", kept: "kept", verifying: "verifying", ending: "ending", sleeping: "sleeping"}

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
	slept // it has released its VRAM
	sleepFailed
)

// drainGoal is what the commands want to become of a ready process.
type drainGoal int

const (
	goalUse   drainGoal = iota
	goalKeep            // drained, with its process
	goalEnd             // drained without its process, replaced or removed
	goalSleep           // unloaded, with a process that has released its VRAM
)

// goalOf returns what the commands want. A replacement prevails over a drain, which
// takes effect again on the next process. sleeps says that the engine can sleep.
func goalOf(c command, d *DrainOptions, sleeps bool) drainGoal {
	switch {
	case c.replace:
		return goalEnd
	case d == nil:
		return goalUse
	case d.Keep:
		return goalKeep
	case d.unload && sleeps:
		return goalSleep
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
		case goal == goalSleep:
			return sleeping
		default:
			return ending
		}
	case sleeping:
		switch event {
		case sleepFailed:
			return ending
		case slept:
			return kept.nextOut(commandsChanged, goal)
		default:
		}
	case kept, verifying:
		return p.nextOut(event, goal)
	case ending:
	}
	return p
}

// nextOut is next for a process that is out of use: kept, or verifying.
func (p drainPhase) nextOut(event drainEvent, goal drainGoal) drainPhase {
	switch {
	case goal == goalEnd:
		return ending
	case goal == goalKeep, p == kept && goal == goalSleep:
		return kept
	case p == verifying && event == verifyFailed:
		return ending
	case p == verifying && event == verified && goal == goalSleep:
		return draining
	case p == verifying && event == verified:
		return inUse
	default:
		return verifying
	}
}
