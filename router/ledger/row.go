package ledger

import (
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// Row is the record of one call, and Dimensions are what calls are grouped by.
type (
	Row        = journal.Row
	Dimensions = journal.Dimensions
	Attempt    = journal.Attempt
)

// CallID is the id of a call, in flight and in the database.
type CallID = journal.CallID

// NewCallID returns the id of a call: of the time when it came, and the number of its row.
func NewCallID(at time.Time, number int64) CallID { return journal.NewCallID(at, number) }

// ParseCallID reads an id as its method String writes it.
func ParseCallID(text string) (CallID, error) { return journal.ParseCallID(text) }
