// Package collect makes the metrics of what the present routing has: its upstreams, its budgets
// and its ledger. Those of calls are counted by the router itself, and those of local servers by
// the daemon.
package collect
