// Package ledger records what every call used, cost and saved, and sums it up.
// The router records a Row at the end of each call; the daemon opens and closes
// the ledger, shows its State, restores the budgets from it, and answers
// `llmsup usage`. It holds no prompt, no answer and no key.
//
//	Record, Begin -> queue -> writer -> ledger.journal-*.jsonl
//	                                             |
//	           ledger.db (SQLite) <- committer --+   once a second
//
// There is one way for a row to the database. The writer appends it to a journal
// file as one line, by a plain write: that survives a kill -9 of llmsup, so a row
// is written before the last byte of its call's answer is sent. Once a second the
// committer begins a new journal file, stores the rows of the previous one in the
// database in one transaction, and removes it. What a killed llmsup has left in a
// journal is imported at the next start. The primary key of a row is its time and
// an id that it got when it was recorded, so that a row which is imported twice is
// stored once.
//
// While the database cannot be used (full disk, locked, read-only, corrupt, hung),
// rows stay in the journal. While the journal cannot be written either, they stay
// in memory. No call waits for the database. Calls wait for the journal; when it
// hangs for a second, none waits any more, and while it fails none does.
//
// Nothing is synced for each call, but the database is five seconds after a commit: a
// power failure may cost the last ten seconds.
//
// With each row the committer adds to the sums of its day, in the same
// transaction. Those are kept for ever, the rows for Options.Keep. Days are UTC's,
// so that they stay what they are when a server's time zone changes.
//
// Money is kept in whole picodollars (package usd), so that sums are exact. What
// is not known is NULL, is counted as unknown, and is never 0.
package ledger
