package ledger

import "github.com/llmsup/llmsup/router/ledger/journal"

// Pending is a paid attempt that is under way. What it may cost is in the journal
// before the attempt is made, so that budgets count it even if llmsup is killed
// meanwhile. The row of its call ends it (see Record), or Cancel does. A ledger that
// records nothing returns nil.
type Pending struct {
	ledger *Ledger
	id     int64 // also the id of the row that ends it, so that the database stores one of them
}

// Begin records that a paid attempt begins: what is known of the call and, in Charged,
// what it may cost. It returns when that is in the journal, or after a second. While
// the journal cannot be written it logs that and returns at once; the attempt may be
// made nevertheless. All attempts at a call may have its number: a second one is begun only
// if the one before has cost nothing.
func (l *Ledger) Begin(row Row) *Pending {
	if l == nil {
		return nil
	}
	e := journal.NewEntry(l.idOf(&row), &row)
	written := l.enqueue(e.Line(journal.BeginLine), true).Wait()
	if failed := l.beginFailed.Swap(!written); !written && !failed {
		l.log.Error().Msg("paid calls in flight cannot be recorded; if llmsup is killed, budgets will not count them")
	}
	return &Pending{l, e.ID}
}

// Cancel ends an attempt that cost nothing.
func (p *Pending) Cancel() {
	if p != nil {
		p.ledger.enqueue(journal.Line{Kind: journal.EndLine, ID: p.id}, true)
	}
}
