// Package gpu reads NVIDIA GPUs through NVML, and says what the readings mean
// for a server that runs on them.
//
// The daemon (cmd/internal/daemon) has one Monitor. Once a second it publishes a
// Sample, which is immutable; nobody ever waits for the driver, which may hang.
// For each server the daemon then asks a Policy, which is pure, what to make of
// it: nothing, a reason to pass the server over (degraded), or one to end its
// process.
//
// sample.go has what is read, nvml.go and nonvml.go who reads it, monitor.go
// when; verdict.go has the hysteresis, findings.go the conditions.
//
// What the driver does not tell is nil, everywhere, and never held against a
// server.
package gpu
