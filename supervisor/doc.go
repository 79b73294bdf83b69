// Package supervisor runs one process that serves a model, and keeps it running.
//
// cmd/internal/daemon creates one Server for each entry of the configuration and
// calls its Run in a goroutine. That goroutine owns the server: it is the only writer
// of its state. Commands (Restart, Drain, ...) are stored for it and never block;
// readers use immutable snapshots, and a closed channel shows that there is a newer
// one. So no request waits for a probe, a restart or a slow process.
//
// Where to read what:
//   - server.go has the owner's loop, cycle.go one life of a process within it: load.go
//     until it is ready, monitor.go from then on, restart.go after its exit;
//   - the decisions are pure functions: state.go, drainphase.go, restart.go, liveness.go,
//     class.go;
//   - what is specific to a program such as llama-server is behind Engine (engine.go),
//     which supervisor/llamacpp and supervisor/generic implement: command line, probes, exit classes, log
//     lines. This package knows none of a program's flags, paths, metrics or messages,
//     and imports no engine;
//   - supervisor/process starts and kills processes, supervisor/output keeps what they
//     print.
//
// It never routes a call, never chooses a GPU (GPU does), and never touches a process
// that llmsup has not started.
package supervisor
