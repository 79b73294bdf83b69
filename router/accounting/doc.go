// Package accounting computes what a call costs: it estimates the cost before an attempt,
// reserves it within the budgets, and settles it by the usage that the backend reports or,
// without that, by the text that was received.
//
// The router calls it around each attempt at a metered backend, and records the call in
// the ledger with the sum of its charges. The package sends nothing and chooses no
// backend; it never charges an attempt twice.
package accounting
