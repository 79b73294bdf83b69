// Package journal is the files that the ledger appends calls to before they are in its
// database. Only package ledger calls it: its writer appends lines (Journal), and its
// committer reads files that are finished, or that an earlier llmsup left (Importer).
//
//	Journal.Append -> ledger.journal-RUN-N.jsonl -> Importer.Next -> database
//	                  ^ Journal.Rotate begins the next file
//
// A line is appended by a plain write: it survives a kill -9 of llmsup, and is not
// synced. Each line has a checksum, so a line that was cut or overwritten is found. A
// file is removed when all of its rows are in the database.
//
// A paid attempt has a line before it is made. An attempt that neither a row nor an end
// line ends becomes a row when its file is imported: llmsup was killed meanwhile.
//
// The package has no goroutine and no lock, never syncs, and knows no database.
package journal
