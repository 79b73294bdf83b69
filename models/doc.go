// Package models knows what a model name means: which backend answers for it,
// under which name, and what to fall back on. It imports nothing else of
// llmsup; the router asks it at every call, and the configuration fills it.
//
// Below it, gguf reads what a model file says of itself, and demo makes the
// model of `llmsup start --demo`.
package models
