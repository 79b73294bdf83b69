package scheduler

import (
	"math"
	"time"
)

// rateMemory is how long a call counts: after this time its weight is 1/e.
const rateMemory = 2 * time.Minute

// Rate estimates how many calls per second a model will get soon, from those that it got.
// Its zero value has seen no call.
type Rate struct {
	perSecond float64
	at        time.Time // when perSecond was right
}

// Add counts some calls.
func (r *Rate) Add(now time.Time, calls int) {
	r.perSecond, r.at = r.At(now)+float64(calls)/rateMemory.Seconds(), now
}

// At returns the rate in calls per second.
func (r *Rate) At(now time.Time) float64 {
	if r.perSecond == 0 {
		return 0
	}
	return r.perSecond * math.Exp(-max(now.Sub(r.at), 0).Seconds()/rateMemory.Seconds())
}
