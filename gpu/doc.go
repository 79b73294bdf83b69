// Package gpu reads NVIDIA GPUs through NVML, and decides what the readings mean for a
// server that runs on them.
//
// The daemon (cmd/internal/daemon) has one Monitor, which publishes an immutable Sample
// each second. Only the goroutine that calls the driver ever waits for it, since the
// driver may hang. cmd/internal/placement passes each sample to a Policy, which is pure.
// Its Verdict is that the server is healthy, that it is degraded, or that its process
// has to be replaced.
//
// sample.go defines what is read; nvml.go and nonvml.go read it; driverloop.go and
// monitor.go call them. conditions.go judges one sample, verdict.go adds the hysteresis.
//
// A value that the driver does not report is nil. An unknown value never degrades a
// server.
package gpu
