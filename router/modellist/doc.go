// Package modellist answers GET /v1/models: which models a client may call, and what is
// known of each.
//
// The router calls it for the requests that passed its checks. The package only reads: the
// routing, and the lists that others have fetched. It waits for no network, and plans no
// call.
package modellist
