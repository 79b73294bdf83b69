// Package page serves the web page of llmsup, under /ui/ of the endpoint: its files, its
// event stream, and its API. It decides who may see what: see access.go, and README.md.
//
// cmd/internal/daemon calls it for requests to /ui/, and gives it what it shows and whom it
// commands. The page never changes anything but through the control API's interfaces, and
// makes no call but through the router.
package page
