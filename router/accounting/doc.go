// Package accounting knows what a call costs: it estimates that before an attempt,
// reserves it within the budgets, and settles it by what the backend reports or, where
// that is missing, by the text that was seen.
//
// The router calls it around each attempt at a metered backend, and records the call in
// the ledger with the sum of its charges. The package sends nothing and decides about
// no backend; it never charges an attempt twice.
package accounting
