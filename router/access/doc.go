// Package access decides which requests the router accepts: by the client's key, by
// the web page that sends them (Origin) and by the name that they call (Host).
//
// The router calls it before it reads a request's body, and for a key's routes when
// it plans a call. The package counts nothing and answers nothing but a browser's
// preflight; it never sees a key's text but to compare its hash.
package access
