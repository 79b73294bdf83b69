package pick

import (
	"math"
	"time"

	"github.com/cespare/xxhash/v2"
)

// ToLoad returns the index of the box, of some that do not have the model loaded, where a call gets
// its first token soonest, and in what time; -1 = none.
//
// Those that load the model already are looked at, and one other: that with the highest hash of its
// name and the model. All boxes agree on that one without asking each other, so that a burst of
// calls does not have the model loaded by all of them.
func ToLoad(unloaded []Box, c Call) (i int, firstToken time.Duration) {
	next, highest, hashed := -1, uint64(0), xxhash.Sum64String(c.Model)
	best, soonest := -1, time.Duration(math.MaxInt64)
	consider := func(i int) {
		if t := unloaded[i].firstToken(&c); t < soonest {
			best, soonest = i, t
		}
	}
	for i := range unloaded {
		if unloaded[i].Loading {
			consider(i)
		} else if h := mix(hashed + xxhash.Sum64String(unloaded[i].Name)); next < 0 || h > highest {
			next, highest = i, h
		}
	}
	if next >= 0 {
		consider(next)
	}
	if best < 0 {
		return best, 0
	}
	return best, soonest
}
