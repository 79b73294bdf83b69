package supervisor

import "time"

const (
	backoffFirst = time.Second
	backoffMax   = time.Minute
	// forgetAfter is how long a server has to have been ready for its earlier
	// failures to be forgotten.
	forgetAfter = 10 * time.Minute
)

// history is the input of the restart policy: the exits of a server that no command
// caused. The zero value is a server that has not failed.
type history struct {
	failures int   // exits in a row
	class    Class // of the last of them
	same     int   // how many in a row were of that class
}

// after returns the history after another exit. ready is for how long the process
// had been ready, 0 if it never was.
func (h history) after(class Class, ready time.Duration) history {
	if ready >= forgetAfter {
		h = history{}
	}
	if h.class != class {
		h.class, h.same = class, 0
	}
	h.same++
	h.failures++
	return h
}

// decide returns what to do after the last exit: to give up, or to start again after
// a pause. jitter, in [0,1), subtracts up to a fifth from the pause. It spreads the
// starts of several machines that lost the same disk.
//
// A permanent failure is tried once more all the same: a file may have been replaced
// at that very moment.
func (h history) decide(jitter float64) (pause time.Duration, giveUp bool) {
	if h.class.Permanent() && h.same >= 2 {
		return 0, true
	}
	pause = backoffMax
	if h.failures < 7 { // 1 s << 6 is beyond backoffMax already
		pause = min(backoffFirst<<max(h.failures-1, 0), backoffMax)
	}
	return pause - time.Duration(jitter*float64(pause)/5), false
}
