package pick

import (
	"time"

	"github.com/cespare/xxhash/v2"
)

// ToLoad returns the index of the box, of some that do not have the model loaded, that would load it
// for a call, and the expected time to the first token there; -1 = none.
//
// At most one box is looked at, so that a burst of calls does not have the model loaded by many
// boxes: the one that loads it already, else the one with the highest hash of its name and the
// model. All boxes agree on that one without asking each other.
func ToLoad(unloaded []Box, c Call) (i int, firstToken time.Duration) {
	best, highest, hashed := -1, uint64(0), xxhash.Sum64String(c.Model)
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
	if best < 0 {
		return best, 0
	}
	return best, unloaded[best].firstToken(&c)
}
