package supervisor

import "time"

const (
	backoffFirst = time.Second
	backoffMax   = time.Minute
	// forgiveAfter is how long a server has to have been ready for its earlier
	// failures to be forgotten.
	forgiveAfter = 10 * time.Minute
)

// history is what the restart policy remembers of a server. The zero value is
// a server that has not failed.
type history struct {
	failures int   // ends in a row that nobody asked for
	class    Class // of the last of them
	same     int   // how many in a row were of that class
}

// after takes an end into the history: its class, and for how long the process
// had been ready, 0 if it never was.
func (h history) after(class Class, ready time.Duration) history {
	if ready >= forgiveAfter {
		h = history{}
	}
	if h.class != class {
		h.class, h.same = class, 0
	}
	h.same++
	h.failures++
	return h
}

// decide says what to do after the last end: to give up, or to start again
// after a pause. jitter, in [0,1), spreads the starts of several boxes that
// lost the same disk, and takes up to a fifth off the pause.
//
// A cause that waiting can't mend is tried once more all the same: a file may
// have been replaced at that very moment.
func (h history) decide(jitter float64) (pause time.Duration, giveUp bool) {
	if h.class.lasting() && h.same >= 2 {
		return 0, true
	}
	pause = backoffMax
	if h.failures < 7 { // 1 s << 6 is beyond backoffMax already
		pause = min(backoffFirst<<max(h.failures-1, 0), backoffMax)
	}
	return pause - time.Duration(jitter*float64(pause)/5), false
}
