package fleet

import (
	"slices"
	"strings"
	"time"
)

// silence is how long a box may announce nothing new, by the reader's own clock, until it is
// no longer in the fleet.
const silence = 3 * time.Second

// View is the fleet as this box knows it. It is immutable.
type View struct {
	Name    string   // of this box
	Joined  bool     // the other boxes know this one
	Problem string   // why it has not joined, or what else does not work; "" = all works
	Boxes   []Peer   // the others, sorted by name
	Absent  []Peer   // others that were heard of in the last day and are not in Boxes: silent, or Leaving; sorted by name
	Foreign []string // boxes with another fleet's key that are heard of, sorted by name; not authenticated
	Ignored uint64   // announcements that were not of this fleet, so far

	Changed <-chan struct{} // closed when another View replaces it
}

// Peer is another box, and when it was last heard of.
type Peer struct {
	Box
	Seen time.Time // of its last announcement; by this box's clock
}

// peers are the boxes that a Member has heard of. Its mu guards them.
type peers struct {
	self     string // name of this box
	byName   map[string]Peer
	namesake Peer // another box that has announced itself with the name of this one
}

// observe takes over the announcement of a box, and reports whether that has changed
// anything. A name belongs to one instance until that leaves or is silent: announcements of
// another one, and those that have been sent before, count as nothing.
func (p *peers) observe(b *Box, instance string, now time.Time) bool {
	switch {
	case b.Instance == instance:
		return false
	case b.Name == p.self:
		if b.Instance == p.namesake.Instance && b.Seq <= p.namesake.Seq {
			return false
		}
		p.namesake = Peer{*b, now}
		return true
	}
	old, known := p.byName[b.Name]
	if known && old.Instance != b.Instance && !old.Leaving && now.Sub(old.Seen) < silence {
		return false
	}
	if known && old.Instance == b.Instance && b.Seq <= old.Seq {
		return false
	}
	p.byName[b.Name] = Peer{*b, now}
	return true
}

// aliveNamesake returns the box that has the name of this one, if it announces itself.
func (p *peers) aliveNamesake(now time.Time) *Peer {
	if p.namesake.Instance == "" || p.namesake.Leaving || now.Sub(p.namesake.Seen) >= silence {
		return nil
	}
	return &p.namesake
}

// expire returns the names of the boxes that were present at before and are silent now.
func (p *peers) expire(before, now time.Time) (silent []string) {
	for name, peer := range p.byName {
		if !peer.Leaving && before.Sub(peer.Seen) < silence && now.Sub(peer.Seen) >= silence {
			silent = append(silent, name)
		}
	}
	return silent
}

// postpone delays the silence of the boxes that were present at a time by the pause from then until
// now. A box that has announced itself in the pause is as one that does so now.
func (p *peers) postpone(at, now time.Time) {
	for name, peer := range p.byName {
		if at.Sub(peer.Seen) < silence {
			if peer.Seen = peer.Seen.Add(now.Sub(at)); peer.Seen.After(now) {
				peer.Seen = now
			}
			p.byName[name] = peer
		}
	}
}

// forget is how long a box is remembered that is silent or has left: reports of the fleet name
// it as missing, and its old announcements must not bring it back.
const forget = 24 * time.Hour

// known returns the boxes that are in the fleet, and those that are silent or have left, each
// sorted by name. It forgets those that were so long ago.
func (p *peers) known(now time.Time) (present, absent []Peer) {
	for name, peer := range p.byName {
		switch age := now.Sub(peer.Seen); {
		case age >= forget:
			delete(p.byName, name)
		case age < silence && !peer.Leaving:
			present = append(present, peer)
		default:
			absent = append(absent, peer)
		}
	}
	for _, list := range [][]Peer{present, absent} {
		slices.SortFunc(list, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	}
	return present, absent
}
