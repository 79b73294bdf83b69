// Package modellist answers GET /v1/models: which models a client may call, and what is
// known of each, in OpenAI's format or in Anthropic's.
//
// The router calls it for requests that have passed its checks. The package only reads what
// others have: the routing, the state of the local servers, and the upstreams' lists. It
// waits for no network, and no call depends on it.
package modellist
