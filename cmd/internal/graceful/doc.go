// Package graceful closes the connections of an HTTP server at a stop without
// cutting off a request: it has the last responses announce that their connection
// closes, closes connections that are idle, and never one on which a request has
// arrived. It also tells a client that has closed only its sending side from one
// that has closed its connection. cmd/internal/daemon calls it for the public
// port. It never decides that a stop begins, how long it may take, or which
// requests are cut off at its end, and it knows nothing of routes or servers.
package graceful
