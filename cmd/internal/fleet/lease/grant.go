package lease

import (
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// idleAfter is the time without a paid call after which a box gives back what is more than its
// share.
const idleAfter = 30 * time.Second

// demand is what a box needs of a limit.
type demand struct {
	lease budget.Lease
	boxes int // in the fleet, this one included
	idle  time.Duration
	hold  bool // take nothing for calls to come
}

// share returns how much unspent credit a box takes ahead: a quarter of the limit divided by
// the boxes, or twice its largest call; less when little is left, so that all boxes get some.
// room is what can be its credit.
func (d *demand) share(limit, room usd.Amount) usd.Amount {
	if room <= 0 {
		return 0
	}
	boxes := usd.Amount(d.boxes)
	return min(max(d.aim(limit), 2*d.lease.Largest), (room+2*boxes-1)/(2*boxes))
}

func (d *demand) aim(limit usd.Amount) usd.Amount { return limit / usd.Amount(4*d.boxes) }

// decision is how a box changes its part.
type decision struct {
	granted usd.Amount // if it is more than before
	lower   bool       // give back instead, and keep this much unspent
	keep    usd.Amount
	share   usd.Amount
	low     usd.Amount // more is taken when less than this is unspent
	lacks   usd.Amount // other boxes should give back this much, for a call that asked; 0 = none
}

// low returns with how little unspent credit a box takes more: half its share, or less than its largest
// call needs.
func (d *demand) low(share usd.Amount) usd.Amount {
	if share < d.lease.Largest {
		return share / 2 // it has not enough for that anyway
	}
	return max(share/2, d.lease.Largest)
}

// decide decides how much of a limit a box takes or gives back. What is spent or reserved is
// never given back, and nothing is taken that others hold.
func (r *Record) decide(d demand) decision {
	l := &d.lease
	taken := l.Taken()
	others := r.grantedToOthers(l.Unique)
	room, unspent := r.Limit-others-taken, l.Granted-taken
	out := decision{granted: max(l.Granted, taken), share: d.share(r.Limit, room)}
	out.low = d.low(out.share)
	if l.Asked > max(room, unspent) && l.Asked <= r.Limit-taken-r.spentByOthers(l.Unique) {
		out.lacks = max(l.Asked-max(room, 0), d.aim(r.Limit)) // for the next calls, too
	}
	want := usd.Amount(0)
	switch {
	case unspent > max(room, 0): // the limit was lowered, or is exceeded by calls that cost more than expected
		out.lower, out.keep = true, min(max(room, 0), out.share)
		return out
	case l.Asked > unspent && l.Asked <= room:
		want = max(l.Asked, out.share)
	case d.hold:
	case unspent < out.low || unspent <= 0 || l.Asked > unspent:
		want = out.share
	case d.idle > idleAfter && unspent > 2*out.share:
		out.lower, out.keep = true, out.share
		return out
	}
	out.granted = max(out.granted, taken+min(want, max(room, 0)))
	return out
}

// keepFor returns how much unspent credit a box keeps when another box needs some. What a call has asked
// for stays until its client has tried again: else two boxes would take the last credit of a limit
// from each other, and spend it neither.
func keepFor(l *budget.Lease, needed usd.Amount) usd.Amount {
	unspent := l.Granted - l.Taken()
	keep := max(unspent-needed, 0)
	if l.Asked <= unspent {
		keep = max(keep, l.Asked)
	}
	return keep
}
