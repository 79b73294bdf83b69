package ledger

import "github.com/llmsup/llmsup/router/ledger/journal"

// Row is the record of one call, and Dimensions are what calls are grouped by.
type (
	Row        = journal.Row
	Dimensions = journal.Dimensions
)
