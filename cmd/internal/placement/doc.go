// Package placement decides on which GPUs a server runs, whether its model fits there
// now, and whether the GPUs are in order for it. It knows of each server what its model
// needs and, from the samples of the GPUs, what its process holds. The supervisor asks it
// before each start of llama-server (supervisor.GPU); cmd/internal/daemon applies the
// configuration and reads the results for status and metrics. It never starts or stops a
// process: it returns why one has to wait, and tells the supervisor that a process is
// degraded or has to end.
package placement
