package ledger

// Pending is a paid attempt that is under way. What it may cost is in the journal
// before the attempt is made, so that budgets count it even if llmsup is killed
// meanwhile. The call's row ends it (Row.Pending), or Cancel. A nil Pending is of a
// ledger that records nothing.
type Pending struct {
	ledger *Ledger
	id     int64 // also of the row that ends it: a row that is stored already is not added again
}

// Begin records that a paid attempt is made: what is known of the call and, in
// Charged, what it may cost. It returns when that is in the journal, or after a second.
// While the journal cannot be written it returns at once, and the log says so; the
// attempt may be made all the same.
func (l *Ledger) Begin(row Row) *Pending {
	if l == nil {
		return nil
	}
	e := newEntry(l.newID(), &row)
	written := l.enqueue(&queuedLine{kind: beginLine, text: e.line(beginLine), id: e.ID}, true).Wait()
	if failed := l.beginFailed.Swap(!written); !written && !failed {
		l.log.Error().Msg("paid calls in flight cannot be recorded; if llmsup is killed, budgets will not count them")
	}
	return &Pending{l, e.ID}
}

// Cancel ends an attempt for which nothing was paid.
func (p *Pending) Cancel() {
	if p != nil {
		p.ledger.enqueue(&queuedLine{kind: endLine, text: newEndLine(p.id), id: p.id}, true)
	}
}
