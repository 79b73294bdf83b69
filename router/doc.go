// Package router is the OpenAI-compatible endpoint: it takes a call, finds out by its
// model name who should answer it, and hands it to them, local server first, so that the
// client gets one whole answer or one error.
//
//	guard (keys, origins) -> routes (path, dialect, body) -> plan (candidates, in order)
//	  -> exchange (attempt at one candidate after another) -> commit -> relay -> record
//
// Until commit nothing has been sent to the client, so any failure moves the call to the
// next candidate of its plan without the client noticing. The daemon makes the one Router
// and serves it; the packages below this one know nothing of an exchange.
package router
