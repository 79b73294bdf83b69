package lease

import (
	"slices"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// Status is what is known of the fleet's budgets. It is immutable.
type Status struct {
	Limits  []Limit
	Problem string // why no more credit can be had now; "" = all works
}

// Limit is the state of one of the fleet's limits in the present window.
type Limit struct {
	Key      string // "" = all calls together
	Period   budget.Period
	Limit    usd.Amount
	Ends     time.Time  // end of the window
	Spent    usd.Amount // by all boxes; what others have spent since they last changed the record is missing
	Reserved usd.Amount // by this box, for calls in flight
	Granted  usd.Amount // to this box, and neither spent nor reserved
	Left     usd.Amount // granted to no box
	Gone     []Held     // of boxes that are not in the fleet, until the window ends or they are back
	Rebuilt  bool       // the record was lost, and other boxes have yet to add what they know of it
}

// Held is credit of a box that is not in the fleet.
type Held struct {
	Box    string
	Amount usd.Amount
	Since  time.Time // when it last changed its part
}

// known is what the goroutine in Serve knows. It is immutable.
type known struct {
	windows map[string]window
	problem string
}

// publish replaces what is known.
func (l *Leaser) publish(failed error) {
	l.o.Budget.SetAlone(failed != nil)
	next := &known{windows: map[string]window{}}
	if failed != nil {
		next.problem = failed.Error()
	}
	for key, w := range l.windows {
		next.windows[key] = *w
	}
	l.known.Store(next)
}

// Status returns what is known of the fleet's budgets, those of all calls first. present are the
// boxes of the fleet.
func (l *Leaser) Status(present []string) (s Status) {
	k := l.known.Load()
	if k == nil {
		k = &known{problem: errNoConnection.Error()}
	}
	s.Problem = k.problem
	gone := func(box string) bool { // without a connection it is unknown
		return k.problem != errNoConnection.Error() && !slices.Contains(present, box)
	}
	for _, lease := range l.o.Budget.Leases(l.wall()) {
		w := k.windows[windowKey(lease.LeaseID)]
		if w.record == nil || w.lease != lease.Unique {
			w.record = &Record{Limit: lease.Limit}
		}
		s.Limits = append(s.Limits, w.limit(&lease, gone))
	}
	return s
}

func (w *window) limit(lease *budget.Lease, gone func(box string) bool) Limit {
	out := Limit{
		Key: lease.Key, Period: lease.Period, Limit: w.record.Limit, Ends: lease.To, Spent: lease.Spent, Reserved: lease.Reserved,
		Granted: max(lease.Granted-lease.Taken(), 0), Left: max(w.record.Limit-w.record.grantedToOthers(""), 0), Rebuilt: w.incomplete,
	}
	for _, h := range w.record.Holders {
		if h.Lease == lease.Unique {
			continue
		}
		if out.Spent += h.Spent; h.Lease != "" && gone(h.Box) && h.Granted > h.Spent {
			out.Gone = append(out.Gone, Held{Box: h.Box, Amount: h.Granted - h.Spent, Since: h.At})
		}
	}
	return out
}
