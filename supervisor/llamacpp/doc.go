// Package llamacpp knows llama-server, the HTTP server of llama.cpp: it is the
// implementation of supervisor.Engine for it. Other programs are run by package generic.
//
// All that is specific to the program is here, one file for each question:
//   - binary.go: where the program is, and which version;
//   - command.go, features.go: its command line and environment, and which flags its
//     build knows;
//   - arguments.go: which arguments an operator may pass through to it;
//   - probe.go: /health, /slots, /props and /metrics, which show whether it is ready and
//     alive;
//   - promptcache.go: how its slots are saved and restored;
//   - testcall.go, learned.go: the smallest call that its model supports, and what the
//     answers show of the model;
//   - describe.go: what the model's file, its arguments and its environment show of it;
//   - classify.go: what its last lines say about why it ended;
//   - logline.go: which of its lines llmsup's log may have, and at which level;
//   - capabilities.go, fields.go: what the router may rely on, and which fields of a request
//     only llama-server knows.
//
// cmd/internal/daemon passes an Engine to supervisor.New; cmd/llmsup calls FindBinary
// before a start, and FindBinary and Version for `llmsup check`; cmd/internal/config
// calls CheckArgs and SingleThread. The package
// starts no server and keeps no state: package supervisor does. How much VRAM a model
// needs in llama-server is in models/vram.
//
// To add another engine of which llmsup should know as much, write a package beside this one
// that implements supervisor.Engine and supervisor.Probe: .github/CONTRIBUTING.md lists what else
// to change.
//
// Source of the facts: llama.cpp's tools/server, build 11669, and its README.
package llamacpp
