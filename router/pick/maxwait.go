package pick

import "time"

// MaxWait is the longest time that a call waits in the queue of a box: if it would be longer, the
// box refuses the call, which moves on. The zero value sets no limit.
type MaxWait struct {
	Limited bool
	Limit   time.Duration // if Limited; 0 = the call begins at once, or moves on
}

// AtMost returns a limited MaxWait.
func AtMost(d time.Duration) MaxWait { return MaxWait{Limited: true, Limit: d} }

// Or returns the limit; another one if it sets none.
func (m MaxWait) Or(other time.Duration) time.Duration {
	if m.Limited {
		return m.Limit
	}
	return other
}
