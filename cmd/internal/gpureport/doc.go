// Package gpureport reports the GPUs in the status and in the metrics: the monitor's last sample,
// what holds their memory, and whether they are fit. cmd/internal/daemon owns a Reporter. It
// reads no GPU itself, and decides nothing.
package gpureport
