// Package attempt makes one attempt at a call: it gives the call to one backend and waits
// for the first answer. Until then nothing has been sent to the client, so a Failure
// costs the client nothing but time. An Answer is what the router commits to.
//
//	reserve (budget) -> Admit (slot, breaker) -> Send -> headers -> first event or whole body -> Answer
//
// The router starts an attempt at each candidate of a call's plan, and reads the events
// of its Answer. The package writes nothing to a client; it never asks a second backend,
// and it settles or returns the reservation of every attempt that failed.
package attempt
