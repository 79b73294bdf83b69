// Package calls joins the calls in flight, which the router knows, with those that have ended,
// which the ledger has, for commands and the page: it lists, follows and cancels them.
// cmd/internal/daemon owns it. It never decides where a call goes or what it costs.
package calls
