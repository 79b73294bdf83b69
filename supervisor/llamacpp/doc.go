// Package llamacpp knows llama-server, the HTTP server of llama.cpp: it is the
// implementation of supervisor.Engine for it, and so far the only engine.
//
// All that is specific to the program is here, one file for each question:
//   - binary.go: where the program is, and which version;
//   - command.go, features.go: its command line and environment, and which flags its
//     build knows;
//   - arguments.go: which arguments an operator may pass through to it;
//   - probe.go: /health, /slots, /props, /metrics and /completion, which show whether
//     it is ready and alive;
//   - classify.go: what its last lines say about why it ended;
//   - logline.go: which of its lines llmsup's log may have, and at which level;
//   - capabilities.go, fields.go: what the router may rely on, and which fields of a request
//     only llama-server knows.
//
// cmd/internal/daemon passes an Engine to supervisor.New; cmd/llmsup calls FindBinary
// and Version for `llmsup check`; cmd/internal/config calls CheckArgs. The package
// starts no server and keeps no state: package supervisor does. How much VRAM a model
// needs in llama-server is in models/vram.
//
// To add another engine, write a package beside this one that implements the five
// methods of supervisor.Engine and the five of supervisor.Probe, and let
// cmd/internal/daemon choose it for the servers that are configured for it. Package
// supervisor needs no change; the router sees nothing of an engine but its
// models.Capabilities.
//
// Source of the facts: llama.cpp's tools/server, build 11669, and its README.
package llamacpp
