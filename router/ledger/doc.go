// Package ledger writes down what every call used, cost and saved, in an SQLite
// database in the state directory, and adds it up. The router records a Row at
// the end of each call, and for one that was paid for waits, for a moment at
// most, until the row is durable; the daemon opens and closes the ledger, tells
// its State, fills the budgets from it, and answers `llmsup usage`.
//
//	Record, Pay -> queue -> committer -> ledger.db        (group commit)
//	                  \                      ^
//	                   `--> spiller -> ledger.spill-*.jsonl (read back)
//
// Nobody waits for the database: rows go through a queue in memory to the
// committer, the one goroutine that writes to the database. When that can't be
// used (full disk, locked, read-only, corrupt, hung), the spiller appends the
// rows to a file, and the committer reads that file back as soon as the database
// works again, or at the next start. A row has an id of its own from the
// beginning and is taken once, however often it comes, so whoever is in doubt
// writes it again.
//
// A row of the database costs as much as a dozen rows in a text, so what is
// committed together is one row of the table batch for each kind of call: a JSON
// array, which SQL can read. The view calls has one row a call.
//
// With each row the committer adds to the sums of its day, in the same
// transaction. Those are kept for ever, the rows for Options.Keep. Days are UTC's,
// so that they stay what they are when a server's time zone changes.
//
// Money is kept in whole picodollars (package usd), so that sums are exact. What
// is not known is NULL, and counted as such, and never 0.
package ledger
