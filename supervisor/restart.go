package supervisor

import "time"

const (
	backoffFirst = time.Second
	backoffMax   = time.Minute
	// forgiveAfter is how long a server has to have been ready for its earlier
	// failures to be forgotten.
	forgiveAfter = 10 * time.Minute
)

// backoff says how long to wait before the next start.
//
// failures counts the ends in a row that nobody asked for, the latest
// included; jitter, in [0,1), spreads the starts of several boxes that lost
// the same disk. The pause doubles from backoffFirst to backoffMax, and jitter
// takes up to a fifth off it.
func backoff(failures int, jitter float64) time.Duration {
	pause := backoffMax
	if failures < 7 { // 1 s << 6 is beyond backoffMax already
		pause = min(backoffFirst<<max(failures-1, 0), backoffMax)
	}
	return pause - time.Duration(jitter*float64(pause)/5)
}

// failuresAfter counts on from the failures before this run of the process,
// which was ready for readyFor (0 if it never was).
func failuresAfter(before int, readyFor time.Duration) int {
	if readyFor >= forgiveAfter {
		return 1
	}
	return before + 1
}
