// Package aggregate runs a call without a stream as one with a stream, and puts the
// events together to the answer that the client asked for.
//
// A Form is the body as it is sent to the backend: with streaming turned on, or with
// the usage of a stream requested. An Aggregator builds the whole answer from the
// events; a UsageFilter removes the usage that only llmsup asked for. So the time to
// the first token is known for every call, and a healthy answer that takes minutes is
// not taken for a backend that hangs.
//
// The router's attempts call it. The package sends nothing and knows no backend, and it
// never guesses: a stream that it cannot put together exactly is an error, and the call
// is sent again without a stream.
package aggregate
