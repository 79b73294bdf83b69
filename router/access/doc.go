// Package access decides which requests the router accepts: by the client's API key, by
// the web page that sends the request (Origin), and by the name that the client calls
// (Host).
//
// The router calls it before it reads a request's body, and again for a key's routes
// when it plans a call. The package counts nothing, answers only a browser's preflight,
// and stores only the hash of a key.
package access
