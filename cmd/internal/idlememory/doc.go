// Package idlememory returns memory to the machine while no calls come. cmd/internal/daemon
// runs it.
package idlememory
