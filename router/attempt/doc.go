// Package attempt makes one attempt at a call: it gives the call to one backend and waits
// for the first answer. Until then nothing has been sent to the client, so the call can
// move to another backend after a Failure. An Answer is what the router commits to.
//
//	reserve (budget) -> Admit (slot, breaker) -> Send -> headers -> first event or whole body -> Answer
//
// The router starts an attempt at each candidate of a call's plan, and reads the events
// of its Answer. The package decides nothing about routes and never uses a second backend.
// It settles or cancels the reservation of every attempt that failed.
package attempt
