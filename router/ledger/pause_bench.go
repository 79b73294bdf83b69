//go:build bench

package ledger

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// off is turned by SIGUSR2: the same process, with its memory where it is, can be
// measured with its ledger and without it. Between two processes there is more of
// a difference than a ledger makes.
var off atomic.Bool

func init() {
	turn := make(chan os.Signal, 1)
	signal.Notify(turn, syscall.SIGUSR2)
	go func() {
		for range turn {
			off.Store(!off.Load())
		}
	}()
}

func paused() bool { return off.Load() }
