package lease

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// midnight returns a world two minutes before midnight, in which all boxes have their first credit.
func midnight(t *testing.T) *world {
	w := newWorld(t, 1, budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}})
	w.faults = false
	for _, b := range w.boxes {
		b.skew = 0
	}
	w.supplyAll()
	time.Sleep(8 * time.Minute)
	w.supplyAll()
	return w
}

// TestYesterday: a call that came before midnight gets credit of its day afterwards, too: its own
// model may have failed at midnight, after it had run for long.
func TestYesterday(t *testing.T) {
	for name, wait := range map[string]time.Duration{"soon": 3 * time.Minute, "long after": 40 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := midnight(t)
				a, came := w.boxes[0], time.Now()
				time.Sleep(wait)
				w.supplyAll()
				const estimate = 90 * cent // more than the box has, and than the others keep
				if _, exceeded := a.budget.Reserve(came, "", estimate); exceeded == nil || !exceeded.Temporary() {
					t.Fatalf("it has credit without asking for it: %+v", exceeded)
				}
				w.supplyAll()
				r, exceeded := a.budget.Reserve(came, "", estimate)
				if exceeded != nil {
					t.Fatalf("it is refused: %s", exceeded)
				}
				r.Settle(95 * cent) // more than its estimate: the others must see it
				w.supplyAll()
				record := w.history[windowKey(windows("", came)[0])]
				if sum := record[len(record)-1].grantedToOthers(""); sum < 95*cent {
					t.Errorf("the record has %s of 0.95 USD", sum)
				}
			})
		})
	}
}

// TestFirstCallOfTheDay: it has credit at once, also if it is larger than a box's share of the limit,
// as the calls of the day before were.
func TestFirstCallOfTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := midnight(t)
		a := w.boxes[0]
		const estimate = 12 * cent // the share is an eighth of the limit, at most
		for !a.begin("", estimate) {
			w.supplyAll()
		}
		a.end(0, cent)
		w.supplyAll()
		time.Sleep(5 * time.Minute)
		if !a.begin("", estimate) {
			t.Error("the first call of the day gets no credit")
		}
	})
}
