package pick

import "github.com/cespare/xxhash/v2"

// ToLoad returns the index of the box, of some that do not have the model loaded, that gets a call
// first; -1 = none. It is expected to begin the answer sooner than each of the ready boxes in the
// order, of which none has a free slot. limit is how long the call may wait there for a slot, once
// the model is loaded.
//
// At most one box is looked at, so that a burst of calls does not have the model loaded by many
// boxes: the one that loads it already, else the one with the highest hash of its name and the
// model. All boxes agree on that one without asking each other.
func ToLoad(unloaded []Box, c Call, ready []Box, order []int) (i int, limit MaxWait) {
	if i = toLoad(unloaded, c.Model); i < 0 || len(order) == 0 {
		return -1, MaxWait{}
	}
	homeBox := home(ready, &c)
	soonest := ready[order[0]].firstToken(&c, order[0] == homeBox)
	for _, k := range order {
		if ready[k].wait(0) == 0 {
			return -1, MaxWait{}
		}
		soonest = min(soonest, ready[k].firstToken(&c, k == homeBox))
	}
	b := unloaded[i]
	if b.firstToken(&c, false) >= soonest {
		return -1, MaxWait{}
	}
	b.Busy, b.Queued = 0, 0
	return i, AtMost(soonest - b.firstToken(&c, false))
}

// toLoad returns the only box that ToLoad looks at.
func toLoad(unloaded []Box, model string) int {
	best, highest, hashed := -1, uint64(0), xxhash.Sum64String(model)
	for i := range unloaded {
		b := &unloaded[i]
		h := mix(hashed + xxhash.Sum64String(b.Name))
		switch {
		case best < 0, b.Loading && !unloaded[best].Loading:
		case b.Loading != unloaded[best].Loading, b.Loading && b.Load >= unloaded[best].Load, !b.Loading && h <= highest:
			continue
		}
		best, highest = i, h
	}
	return best
}
