// Package ledger records what each call used, cost and saved, and sums it up. The router
// records a Row at the end of each call; the daemon opens and closes the ledger, shows
// its State, restores the budgets from it, and answers `llmsup usage`. It never stores a
// prompt, an answer or a key.
//
//	Record, Begin -> queue -> writer -> ledger.journal-*.jsonl (package journal)
//	                                             |
//	           ledger.db (SQLite) <- committer --+   once a second
//
// There is one way for a row to the database. The writer appends it to a journal file as
// one line, before the last byte of its call's answer is sent: a plain write survives a
// kill -9 of llmsup. Once a second the committer begins a new journal file, stores the
// rows of the previous one in the database in one transaction, and removes the file. At
// the start it imports the files that a killed llmsup left. The primary key of a row is
// its time and an id that it has from the beginning, so a row that is imported twice is
// stored once.
//
// While the database cannot be used (full disk, locked, read-only, corrupt, hung), rows
// stay in the journal. While the journal cannot be written either, they stay in memory.
// No call waits for the database. A call waits for the journal, but not while a write
// fails, nor after a write has hung for a second.
//
// Nothing is synced for each call. The database is synced five seconds after a commit, so
// a power failure may cost the last ten seconds.
//
// In the same transaction the committer adds each row to the sums of its day. The sums
// are kept for ever, the rows for Options.Retention. Days are UTC's, so that they do not
// change with a server's time zone.
//
// Amounts are whole picodollars (package usd), so sums are exact. An unknown figure is
// NULL and counted as unknown, and never 0.
package ledger
