// Package router is the OpenAI-compatible endpoint: it receives a call, finds by its model
// name the backends that may answer it, and tries them in order, local server first. The
// client receives one whole answer or one error.
//
//	guard (keys, origins) -> routes (path) -> handler (body, then a plan: candidates, in order)
//	  -> exchange (attempt at one candidate after another) -> commit -> relay -> record
//
// Plan and record are packages below this one; the other steps are files, or methods in exchange.go.
// Beside them, lifecycle.go counts a call at its begin and its end, resumption.go and resumewhole.go
// have another candidate continue an answer that broke, and fail.go answers a call that no candidate
// has answered.
//
// Until commit nothing has been sent to the client, so after a failure the call can move to
// the next candidate of its plan. The daemon makes the one Router and serves it; the
// packages below this one decide nothing about what is sent to a client, and write to one
// only when the router calls them.
package router
