// Package models has the routing table: for a model name, the backends that serve it, in
// their order, the model's name there, and how a call's parameters are edited. The
// configuration fills the table and the router looks each call up in it. The package imports
// no other package of llmsup.
//
// It also defines what supervisor and router share without importing each other: the reasons
// why a backend is bypassed, and the Capabilities of an engine.
//
// Below it, gguf reads the header of a model file, vram estimates the VRAM that a model
// needs, and demo writes the model of `llmsup start --demo`.
package models
