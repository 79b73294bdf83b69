// Package aggregate runs a non-streaming call as a streaming one, and builds the answer
// that the client asked for from the events.
//
// A Form is the body as it is sent to the backend: with streaming turned on, or with
// the usage of a stream requested. An Aggregator builds the whole answer from the
// events; a UsageFilter removes the usage that only llmsup asked for. So the time to
// the first token is known for every call, and a healthy answer that takes minutes can be
// distinguished from a backend that hangs.
//
// Package attempt calls it. The package sends nothing, knows no backend, and never
// guesses: a stream that it cannot aggregate exactly is an error, and the call is sent
// again without a stream.
package aggregate
