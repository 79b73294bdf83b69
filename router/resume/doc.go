// Package resume continues an answer that broke off: it reads what a client has
// received of a stream (Transcript), and writes the call that has another backend
// continue it and the events that belong behind it.
//
// The router calls it when a stream breaks after its first content. The package
// sends nothing, and knows no backend, route or budget; the router decides whether
// an answer may be continued, and by which backend.
package resume
