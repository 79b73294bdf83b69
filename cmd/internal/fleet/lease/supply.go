package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// window is a limit's window, as this box knows it. A record that was seen is remembered when
// the connection is lost.
type window struct {
	lease    string // budget.Lease.Unique
	record   *Record
	revision uint64
	fresh    bool        // nothing is known to have changed since record was read
	past     *usd.Amount // what ended processes of the box have spent; nil = unknown

	lacks    usd.Amount // what other boxes should give back for a call that waits; 0 = none
	heldOn   time.Time  // when credit was given back for another box
	askedOn  time.Time  // when others were asked last
	asked    int        // how often, for the present lacks
	reported time.Time  // when the record was last changed
	warned   bool       // that most of the limit is spent

	rebuilt    string    // Record.Rebuilt
	rebuiltOn  time.Time // when this box first saw it
	incomplete bool      // other boxes have yet to add what they know of the record

	older      int       // how many reads in a row were older than record
	olderSince time.Time // when the first of them was
}

// giveBack lowers this box's credit for another box. supply writes that to the bucket.
func (l *Leaser) giveBack(n need) {
	now := time.Now()
	for _, lease := range l.leases() {
		w := l.windows[windowKey(lease.LeaseID)]
		if w == nil || w.record == nil || w.record.Window != n.Window || !slices.Contains(n.From, lease.Unique) {
			continue
		}
		w.heldOn, w.reported = now, time.Time{} // the other box must see that nothing is left, too
		l.o.Budget.GiveBack(lease.LeaseID, keepFor(&lease, n.Amount))
	}
}

// supply takes or gives back credit for one lease. The record is changed before more is spent,
// and after less may be.
func (l *Leaser) supply(ctx context.Context, s *session, lease *budget.Lease) error {
	w := l.windows[windowKey(lease.LeaseID)]
	for try := range maxTries {
		if !w.fresh {
			if err := l.read(ctx, s, w, lease); err != nil {
				return err
			}
		}
		next, d := l.plan(ctx, s, w, lease)
		w.lacks = d.lacks
		if next == nil {
			l.o.Budget.Grant(lease.LeaseID, l.credit(s, w, lease, lease.Granted, d.low))
			l.askOthers(s, w)
			l.warn(w, lease)
			return nil
		}
		revision, err := s.bucket.write(ctx, next, w.revision)
		if err == nil {
			w.record, w.revision, w.reported = next, revision, time.Now()
			l.o.Budget.Grant(lease.LeaseID, l.credit(s, w, lease, d.granted, d.low))
			l.askOthers(s, w)
			l.warn(w, lease)
			return nil
		}
		w.fresh = false
		if !errors.Is(err, errConflict) {
			return err // the record may have been replaced, or will be: nothing more may be spent for that
		}
		if try > 0 && lease.Asked == 0 && time.Since(w.heldOn) > hold {
			return nil // at the next tick: a call of another box may wait for its turn
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(try+1) * 5 * time.Millisecond)):
		}
	}
	return nil // at the next tick
}

// joinTime is when a new connection has shown all boxes that are in the fleet: each announces itself
// once a second, and those that were cut off with this one join again within two.
const joinTime = 3 * time.Second

// rebuildTime is how long a box that is in the fleet is waited for, to add what it knows to a record
// that was lost: longer than it takes to find that out, see oldFor. Without such a limit, one that
// refuses the limits would keep all others from their credit.
const rebuildTime = 2 * oldFor

// plan returns the record with this box's next part of it; nil = nothing changes.
func (l *Leaser) plan(ctx context.Context, s *session, w *window, lease *budget.Lease) (*Record, decision) {
	own := Holder{Box: s.box, Ledger: l.o.Ledger, Lease: lease.Unique, At: time.Now().UTC().Truncate(time.Second), Rebuilt: w.record.Rebuilt}
	next := new(*w.record)
	limits := l.version.Load()
	if limits >= next.LimitVersion {
		next.Limit, next.LimitVersion = lease.Limit, limits
	}
	l.close(ctx, w, next, own, lease)
	now := time.Now()
	present := s.present()
	d := next.decide(demand{lease: *lease, boxes: max(next.boxes(), len(present)), idle: now.Sub(lease.Used), hold: now.Sub(w.heldOn) < hold})
	if next.Rebuilt != "" && !next.Whole {
		next.Whole = now.Sub(l.connected) > joinTime && next.complete(present, s.box) || now.Sub(w.rebuiltOn) >= rebuildTime
	}
	if w.incomplete = next.Rebuilt != "" && !next.Whole; w.incomplete {
		d = decision{granted: max(lease.Granted, lease.Taken()), low: d.low}
	}
	own.Granted, own.Spent = d.granted, lease.Spent
	if d.lower {
		own.Granted = l.o.Budget.GiveBack(lease.LeaseID, d.keep)
		d.granted, lease.Granted = own.Granted, own.Granted
	}
	if !w.changes(next, own) {
		return nil, d
	}
	next.Version++
	next.set(own)
	return next, d
}

// changes reports whether a record with this box's part must replace the present one.
func (w *window) changes(next *Record, own Holder) bool {
	var held Holder
	if at := next.index(own.Lease); at >= 0 {
		held = next.Holders[at]
		if held.Box != own.Box {
			return true
		}
	}
	return held.Granted != own.Granted || held.Rebuilt != own.Rebuilt || held.Spent != own.Spent && time.Since(w.reported) > reportInterval ||
		next.Whole != w.record.Whole || next.Limit != w.record.Limit || next.LimitVersion != w.record.LimitVersion ||
		len(next.Holders) != len(w.record.Holders) || next.closed(own) != w.record.closed(own)
}

// close closes the leases of the box's ended processes, as soon as the ledger says what they
// have spent.
func (l *Leaser) close(ctx context.Context, w *window, next *Record, own Holder, lease *budget.Lease) {
	if w.past == nil && l.o.Spent != nil && time.Now().After(l.pastAfter) {
		past, err := l.past(ctx, lease)
		if err != nil {
			l.pastAfter = time.Now().Add(pastInterval)
			l.o.Log.Debug().Err(err).Msg("the credit of an earlier llmsup on this box cannot be given back yet")
			return
		}
		w.past = &past
	}
	if w.past != nil {
		next.closeEnded(own, *w.past)
	}
}

// credit is what this process may spend now, by the record. No box counts as gone that may just not
// have announced itself on a new connection.
func (l *Leaser) credit(s *session, w *window, lease *budget.Lease, granted, low usd.Amount) budget.Credit {
	present, joined := s.present(), time.Since(l.connected) > joinTime
	gone := func(box string) bool { return joined && !slices.Contains(present, box) }
	return budget.Credit{Granted: granted, Low: low, Elsewhere: w.record.elsewhere(lease.Unique, gone)}
}

// askOthers asks the other boxes for credit, now and then.
func (l *Leaser) askOthers(s *session, w *window) {
	now := time.Now()
	if w.lacks == 0 {
		w.asked = 0
		return
	}
	if now.Sub(w.askedOn) < askInterval {
		return
	}
	doubled := min(w.asked, 10)
	hold := min(w.lacks, w.record.Limit>>doubled) << doubled // those that were asked before may have had less than the record says
	w.askedOn, w.asked = now, w.asked+1
	s.ask(need{Window: w.record.Window, Box: s.box, Amount: w.lacks, From: w.record.richest(w.lease, s.present(), hold)})
}

// warnPercent is the share of a limit from which on the operator is warned, once per window.
const warnPercent = 80

func (l *Leaser) warn(w *window, lease *budget.Lease) {
	limit, spent := w.record.Limit, w.record.spentByOthers(lease.Unique)+lease.Spent
	if w.warned || limit == 0 || spent < limit/100*warnPercent {
		return
	}
	w.warned = true
	l.o.Log.Warn().Str("key", lease.Key).Str("period", lease.Period.String()).
		Msgf("over %d %% of the fleet's budget of %s USD is spent, until %s", warnPercent, limit, lease.To.Format(time.RFC3339))
}
