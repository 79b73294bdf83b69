package ownbox

import (
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

const (
	// lossTime is longer than the loss of the connection to NATS goes unnoticed. Meanwhile no box is
	// heard of.
	lossTime = 10 * time.Second
	// rejoinTime is how long the other boxes may take to join again after this one has. NATS may have
	// been away for all of them.
	rejoinTime = 10 * time.Second
)

// lastKnown are the other boxes as the router knows them: those of the view and, while this box is
// alone, those of the time before. A box that has not joined yet may know others already: it hears
// of them while it waits for its name, and they accept its calls.
type lastKnown struct {
	boxes    []fleet.Peer
	alone    bool      // this box was not in the fleet in the last view
	rejoined time.Time // when it was in the fleet again; the zero time = the others have had the time for that, too
}

// of returns the other boxes of a view.
func (l *lastKnown) of(v *fleet.View, now time.Time) []fleet.Peer {
	switch {
	case !v.Joined:
		l.alone, l.rejoined = true, time.Time{}
		l.boxes = l.merge(v)
		return l.boxes
	case l.alone:
		l.alone, l.rejoined = false, now
	}
	if l.awaited() && now.Sub(l.rejoined) < rejoinTime {
		l.boxes = l.merge(v)
		return l.boxes
	}
	l.rejoined = time.Time{}
	l.boxes = recent(v, now)
	return v.Boxes
}

// awaited reports whether this box is in the fleet again, and others may not be yet.
func (l *lastKnown) awaited() bool { return !l.rejoined.IsZero() }

// merge returns the boxes of a view, and those that were known before, unless they have left, or have
// been heard of and become silent since this box is in the fleet again.
func (l *lastKnown) merge(v *fleet.View) []fleet.Peer {
	list := slices.Clone(v.Boxes)
	for _, old := range l.boxes {
		same := func(p fleet.Peer) bool { return p.Name == old.Name }
		if slices.ContainsFunc(v.Boxes, same) {
			continue
		}
		if i := slices.IndexFunc(v.Absent, same); i >= 0 && (v.Absent[i].Leaving || l.awaited() && v.Absent[i].Seen.After(l.rejoined)) {
			continue
		}
		list = append(list, old)
	}
	sortByName(list)
	return list
}

// recent returns the boxes of a view, and those that have become silent a moment ago.
func recent(v *fleet.View, now time.Time) []fleet.Peer {
	list := slices.Clone(v.Boxes)
	for _, silent := range v.Absent {
		if !silent.Leaving && now.Sub(silent.Seen) < lossTime {
			list = append(list, silent)
		}
	}
	sortByName(list)
	return list
}

func sortByName(list []fleet.Peer) {
	slices.SortFunc(list, func(a, b fleet.Peer) int { return strings.Compare(a.Name, b.Name) })
}
