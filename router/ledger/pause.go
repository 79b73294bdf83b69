//go:build !bench

package ledger

// paused says that rows are dropped unseen. Only what scripts/bench.sh builds can
// be told to.
func paused() bool { return false }
