// Package placement decides on which GPUs a server runs, whether its model fits there now,
// and whether the GPUs are healthy enough for it. For each server it has the need of the
// model and, from the samples of the GPUs, the VRAM that the process holds. The supervisor
// calls it before each start of llama-server (supervisor.GPU); cmd/internal/daemon applies
// the configuration and reads the results for status and metrics. It never starts or stops
// a process: it returns why one has to wait, and reports to the supervisor that a process
// is degraded or has to be killed.
package placement
