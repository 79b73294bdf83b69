// Package supervisor runs one llama-server process and keeps it running.
//
// The daemon (cmd/internal/daemon) makes one Server for each entry of the
// configuration and runs it in a goroutine of its own. That goroutine is the
// only writer of the server's state; everyone else reads immutable snapshots
// and is told of the next one by a closed channel, so that no request ever
// waits for a probe, a restart or a slow child.
//
// server.go has the owner's loop; run.go one run of the process in it: load.go
// up to ready, watch.go from then on. What they decide by is pure and stands
// apart: state.go, restart.go, vitals.go, classify.go.
//
// Source of the facts about llama-server: llama.cpp's tools/server, build
// 11669, and its README.
package supervisor
