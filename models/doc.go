// Package models knows what a model name means: which backend answers for it,
// under which name, and what to fall back on. It imports nothing else of
// llmsup; the router asks it at every call, and the configuration fills it.
//
// It also has what supervisor and router have to agree on without knowing each other: the
// reasons why a backend is bypassed, and the Capabilities of an engine.
//
// Below it, gguf reads what a model file says of itself, and demo makes the
// model of `llmsup start --demo`.
package models
