// Package backend sends calls to the backends that can answer them: a Server is a
// supervised llama-server, an Upstream is an endpoint in the cloud or on the network.
//
// The router asks a Backend for its Availability when it plans a call, has it Admit the
// call (a local server has a queue for its slots, an upstream a circuit breaker), and
// has it Send the request. A Failure records how far the request got (Phase), why it
// failed (Reason), and what may be tried next (Next).
//
// The package never sends a request twice that may have been billed, keeps the keys of
// backends out of everything that it returns, and does not decide about routes, money or
// what a client receives.
package backend
