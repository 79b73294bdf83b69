// Package process starts programs in such a way that nothing of them outlives
// llmsup, and reads what Linux knows about running ones.
//
// A process that Start starts leads a process group of its own. It ends with
// llmsup, however llmsup ends: the kernel's parent-death signal kills the leader
// (process.go), a small shell kills the rest of the group (guard.go), and the pid
// file lets the next llmsup kill what outlived both (pidfile.go).
//
// Package supervisor calls it for each server, supervisor/llamacpp to run a program
// for its --help, and cmd/internal/daemon for KillOrphans. It never restarts
// anything, does not know which program it runs, and kills no process that is not
// of llmsup's making.
//
// /proc is read with github.com/prometheus/procfs where it has a parser; elsewhere a
// comment says so. A figure that cannot be read is
// zero: no decision rests on one of them alone.
package process
