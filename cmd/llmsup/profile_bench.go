//go:build bench

package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// init makes SIGUSR1 start and end a CPU profile, for scripts/bench.sh -profile. The
// file is renamed to its final name once it is complete.
func init() {
	path := os.Getenv("LLMSUP_BENCH_PROFILE")
	toggle := make(chan os.Signal, 1)
	signal.Notify(toggle, syscall.SIGUSR1)
	go func() {
		for range toggle {
			f, err := os.Create(path + ".part") //nolint:gosec // the benchmark names it
			if err != nil {
				panic(err)
			}
			if err := pprof.StartCPUProfile(f); err != nil {
				panic(err)
			}
			<-toggle
			pprof.StopCPUProfile()
			if err := os.Rename(f.Name(), path); err != nil { //nolint:gosec // the same
				panic(err)
			}
			_ = f.Close()
		}
	}()
}
