package lease

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// TestRichest: as few boxes as can give an amount are asked, and some more may be spent meanwhile.
func TestRichest(t *testing.T) {
	r := &Record{Holders: []Holder{
		{Box: "a", Lease: "own", Granted: 50 * cent},
		{Box: "b", Lease: "b", Granted: 10 * cent, Spent: 2 * cent},
		{Box: "c", Lease: "c", Granted: 20 * cent, Spent: 19 * cent},
		{Box: "d", Lease: "d", Granted: 5 * cent},
		{Box: "e", Granted: 9 * cent},
		{Box: "gone", Lease: "gone", Granted: 90 * cent},
		{Box: "f", Lease: "f", Granted: cent, Spent: cent},
	}}
	present := []string{"a", "b", "c", "d", "e", "f"}
	for name, tc := range map[string]struct {
		amount usd.Amount
		want   []string
	}{
		"one is enough": {3 * cent, []string{"b"}},
		"two":           {6 * cent, []string{"b", "d"}},
		"all":           {60 * cent, []string{"b", "d", "c"}},
	} {
		if got := r.richest("own", present, tc.amount); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v are asked, not %v", name, got, tc.want)
		}
	}
}

// TestSpentMeanwhile: a box that is asked for credit, and has spent it since it last changed the record, enters
// that at once: then another one is asked.
func TestSpentMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}})
		w.faults = false
		w.supplyAll()
		a, b := w.boxes[0], w.boxes[1]
		for !b.begin("", 80*cent) {
			w.supplyAll()
		}
		w.supplyAll()
		lease := a.budget.Leases(a.now())[0]
		if !a.begin("", lease.Granted) {
			t.Fatal("it cannot spend what it holds")
		}
		a.end(0, lease.Granted)
		key := windowKey(lease.LeaseID)
		for name, asked := range map[string][]string{"others": {"other"}, "it": {"other", lease.Unique}} {
			a.leaser.giveBack(need{Window: key, Box: b.name, Amount: cent, From: asked})
			if got := a.leaser.windows[key].reported.IsZero(); got != (name == "it") {
				t.Errorf("%s asked: it enters what it has spent: %t", name, got)
			}
			a.leaser.windows[key].reported = time.Now()
		}
	})
}

// TestKeep: a box gives back for a call of another box what it does not need for one of its own, whose
// client tries again soon.
func TestKeep(t *testing.T) {
	for name, tc := range map[string]struct{ granted, asked, needed, want usd.Amount }{
		"all is needed":           {10 * cent, 0, 20 * cent, 0},
		"some is needed":          {10 * cent, 0, 3 * cent, 7 * cent},
		"its own call waits":      {10 * cent, 4 * cent, 20 * cent, 4 * cent},
		"too little for its call": {10 * cent, 12 * cent, 20 * cent, 0},
	} {
		l := &budget.Lease{Credit: budget.Credit{Granted: tc.granted + cent}, Spent: cent, Asked: tc.asked}
		if got := keepFor(l, tc.needed); got != tc.want {
			t.Errorf("%s: it keeps %s, not %s", name, got, tc.want)
		}
	}
}

// TestAskAgain: a box that asks in vain asks more boxes each time, and in the end all, whatever the limit.
func TestAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := 1_000_000 * usd.Dollar
		w := &window{lease: "own", lacks: limit / 40, record: &Record{Limit: limit}}
		s := &session{}
		for i := range 40 {
			name := fmt.Sprint(i)
			w.record.Holders = append(w.record.Holders, Holder{Box: name, Lease: name, Granted: limit / 40})
			s.present = func() (all []string) {
				for _, h := range w.record.Holders {
					all = append(all, h.Box)
				}
				return all
			}
		}
		last := 0
		s.ask = func(n need) {
			if len(n.From) < last || len(n.From) < 2 {
				t.Errorf("%d boxes are asked after %d", len(n.From), last)
			}
			last = len(n.From)
		}
		for range 20 {
			(&Leaser{}).askOthers(s, w)
			time.Sleep(askInterval)
		}
		if last != 40 {
			t.Errorf("%d boxes are asked in the end", last)
		}
	})
}
