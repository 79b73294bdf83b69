// Package ondemand loads models when calls need them, and unloads them when other models need
// their VRAM or when they are idle. Its Owner is the only caller of supervisor.Server's Load
// and Unload. It builds the state of all servers, package scheduler decides, and the Owner
// carries the plan out. cmd/internal/daemon runs it.
//
// It decides nothing about a call: the router sends each one elsewhere, or lets it wait,
// and reports that the call needs the model.
package ondemand
