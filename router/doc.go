// Package router is the OpenAI-compatible endpoint: it receives a call, finds by its model
// name the backends that may answer it, and tries them in order, local server first. The
// client receives one whole answer or one error.
//
//	guard (keys, origins) -> routes (path, dialect, body) -> plan (candidates, in order)
//	  -> exchange (attempt at one candidate after another) -> commit -> relay -> record
//
// Until commit nothing has been sent to the client, so after a failure the call can move to
// the next candidate of its plan. The daemon makes the one Router and serves it; the
// packages below this one decide nothing about what is sent to a client, and write to one
// only when the router calls them.
package router
