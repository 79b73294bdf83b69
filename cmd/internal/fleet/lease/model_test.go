package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

const cent = usd.Dollar / 100

// world is a fleet in one goroutine: real Leasers and Budgets, and a bucket with every fault that
// a distributed one can have.
type world struct {
	*rand.Rand
	t       *testing.T
	history map[string][]*Record // by key; a record's revision is its index + 1; nil = rubbish of an outsider
	delayed []func()             // writes that have timed out, and take place later or never
	needs   []need
	limits  map[budget.LeaseID]usd.Amount // the highest limit so far
	spent   map[budget.LeaseID]usd.Amount // by all boxes, reservations included
	boxes   []*modelBox
	faults  bool
	late    int  // percentage of writes that time out, and take place later
	jumps   bool // clocks jump by a day, and limits change
}

// modelBox is a box with its ledger, and the present process on it.
type modelBox struct {
	w       *world
	name    string
	skew    time.Duration // of its clock
	cut     bool          // from NATS
	budget  *budget.Budget
	leaser  *Leaser
	calls   []*call
	rows    []row // of its ledger
	earlier int   // rows of ended processes

	ledgerName string
}

type row struct {
	key    string
	at     time.Time
	amount usd.Amount
}

type call struct {
	row         int // of the ledger, which has the estimate at first
	estimate    usd.Amount
	reservation *budget.Reservation
}

func (b *modelBox) now() time.Time { return time.Now().Add(b.skew).UTC() }

// start starts a process on the box.
func (b *modelBox) start(version uint64, limits budget.Config) {
	if b.calls, b.earlier = nil, len(b.rows); b.ledgerName == "" {
		b.ledgerName = "ledger of " + b.name
	}
	b.budget = budget.New(budget.Config{}, nil)
	b.budget.CountLeases(b.now())
	b.leaser = New(Options{Budget: b.budget, Ledger: b.ledgerName, Spent: b.ledger, Log: zerolog.Nop()})
	b.leaser.wall, b.leaser.connected = b.now, time.Now().Add(-joinTime-1)
	b.leaser.SetLimits(version, limits)
}

// ledger is Options.Spent. Like the real one, it subtracts the calls of this process from the sums of days.
func (b *modelBox) ledger(_ context.Context, from, since time.Time) (map[string]usd.Amount, error) {
	if b.w.fault(5) {
		return nil, errors.New("locked")
	}
	sums, day := map[string]usd.Amount{}, from.Truncate(24*time.Hour)
	for i, r := range b.rows {
		if r.at.Before(day) || slices.ContainsFunc(b.calls, func(c *call) bool { return c.row == i }) {
			continue // in flight
		}
		sums[r.key] += r.amount
		if i >= b.earlier && !r.at.Before(since) {
			sums[r.key] -= r.amount
		}
	}
	return sums, nil
}

func (w *world) fault(percent int) bool { return w.faults && w.IntN(100) < percent }

var errTimeout = errors.New("timeout")

func (b *modelBox) read(_ context.Context, window string) (*Record, uint64, error) {
	list := b.w.history[window]
	n := len(list)
	switch {
	case b.cut || b.w.fault(5):
		return nil, 0, errTimeout
	case n > 0 && b.w.fault(20): // a copy that lags behind
		n = b.w.IntN(n) + 1
	}
	if n == 0 {
		return &Record{Window: window}, 0, nil
	}
	if list[n-1] == nil {
		return &Record{Window: window}, uint64(n), errForeign
	}
	return list[n-1], uint64(n), nil
}

func (b *modelBox) write(_ context.Context, r *Record, revision uint64) (uint64, error) {
	if b.cut {
		return 0, errTimeout
	}
	apply := func() bool {
		if revision != uint64(len(b.w.history[r.Window])) {
			return false
		}
		b.w.history[r.Window] = append(b.w.history[r.Window], r)
		b.w.checkRecord(r)
		for _, other := range b.w.boxes {
			if other != b && !other.cut {
				other.leaser.noteChange(r.Window)
			}
		}
		return true
	}
	switch {
	case b.w.fault(b.w.late):
		b.w.delayed = append(b.w.delayed, func() { apply() })
		return 0, errTimeout
	case !apply():
		return 0, errConflict
	case b.w.fault(b.w.late / 2): // the acknowledgement is lost
		return 0, errTimeout
	}
	return revision + 1, nil
}

func (w *world) checkRecord(r *Record) {
	if sum := r.grantedToOthers(""); !w.jumps && sum > w.limits[w.idOf(r)] {
		w.t.Fatalf("%s of %s are granted: %+v", sum, r.Limit, r)
	}
}

// idOf returns the limit of a record.
func (w *world) idOf(r *Record) budget.LeaseID {
	for id := range w.limits {
		id.From, _ = time.Parse(time.DateOnly, strings.Split(r.Window, ".")[1])
		if windowKey(id) == r.Window {
			return budget.LeaseID{Key: id.Key, Period: id.Period}
		}
	}
	w.t.Fatalf("a record of no limit: %+v", r)
	return budget.LeaseID{}
}

func (b *modelBox) session() *session {
	return &session{
		bucket: b, box: b.name, ask: func(n need) { b.w.needs = append(b.w.needs, n) },
		present: func() (names []string) {
			for _, other := range b.w.boxes {
				names = append(names, other.name)
			}
			return names
		},
	}
}

func (b *modelBox) reconnect(cut bool) {
	b.cut = cut
	b.leaser.noteConnection("")
}

// windows are those of a call.
func windows(key string, at time.Time) (ids []budget.LeaseID) {
	at = at.UTC()
	day, month := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC), time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, k := range []string{"", key} {
		ids = append(ids, budget.LeaseID{Key: k, Period: budget.Daily, From: day}, budget.LeaseID{Key: k, Period: budget.Monthly, From: month})
	}
	if key == "" {
		ids = ids[:2]
	}
	return ids
}

// limitOf returns the limit of a window; negative = none.
func limitOf(c budget.Config, id budget.LeaseID) usd.Amount {
	limits := c.Limits
	if id.Key != "" {
		limits = c.PerKey[id.Key]
	}
	limit := limits.Daily
	if id.Period == budget.Monthly {
		limit = limits.Monthly
	}
	if limit == nil {
		return -1
	}
	return *limit
}

// pay changes what is spent, and checks the limits.
func (w *world) pay(r row, change usd.Amount) {
	for _, id := range windows(r.key, r.at) {
		w.spent[id] += change
		if limit, limited := w.limits[budget.LeaseID{Key: id.Key, Period: id.Period}]; limited && w.spent[id] > limit {
			w.t.Fatalf("%s of %s are spent of %+v", w.spent[id], limit, id)
		}
	}
}

// begin begins a call, and reports whether the budget allows it.
func (b *modelBox) begin(key string, estimate usd.Amount) bool {
	r, exceeded := b.budget.Reserve(b.now(), key, estimate)
	if exceeded != nil {
		return false
	}
	c := &call{row: len(b.rows), estimate: estimate, reservation: r}
	b.rows = append(b.rows, row{key, b.now(), estimate})
	b.calls = append(b.calls, c)
	b.w.pay(b.rows[c.row], estimate)
	return true
}

// end ends a call.
func (b *modelBox) end(i int, actual usd.Amount) {
	c := b.calls[i]
	b.calls = append(b.calls[:i], b.calls[i+1:]...)
	c.reservation.Settle(actual)
	b.rows[c.row].amount = actual
	b.w.pay(b.rows[c.row], actual-c.estimate)
}

func (w *world) setLimits(c budget.Config) {
	for _, key := range []string{"", "k"} {
		for _, p := range []budget.Period{budget.Daily, budget.Monthly} {
			if limit := limitOf(c, budget.LeaseID{Key: key, Period: p}); limit >= 0 {
				id := budget.LeaseID{Key: key, Period: p}
				w.limits[id] = max(w.limits[id], limit)
			}
		}
	}
}

func (w *world) step(version *uint64, limits *budget.Config) {
	b := w.boxes[w.IntN(len(w.boxes))]
	key := []string{"", "k", "other"}[w.IntN(3)]
	switch n := w.IntN(1000); {
	case n < 350:
		b.begin(key, usd.Amount(w.Int64N(int64(5*cent))))
	case n < 600:
		if len(b.calls) > 0 {
			i := w.IntN(len(b.calls))
			b.end(i, usd.Amount(w.Int64N(int64(b.calls[i].estimate)+1)))
		}
	case n < 850:
		_ = b.leaser.supplyAll(w.t.Context(), b.session())
	case n < 900:
		if len(w.needs) > 0 && !b.cut {
			b.leaser.giveBack(w.needs[w.IntN(len(w.needs))])
		}
	case n < 930:
		if len(w.delayed) > 0 {
			i := w.IntN(len(w.delayed))
			w.delayed[i]()
			w.delayed = append(w.delayed[:i], w.delayed[i+1:]...)
		}
	case n < 960:
		time.Sleep(time.Duration(w.IntN(40000)) * time.Millisecond)
	case n < 970:
		b.reconnect(!b.cut)
	case n < 980: // kill -9
		time.Sleep(time.Millisecond)
		b.start(*version, *limits)
	case n < 985 && w.jumps:
		b.skew = time.Duration(w.Int64N(int64(60*time.Hour)) - int64(30*time.Hour))
	case n < 990 && w.jumps: // other limits, which not all boxes have at once
		*version++
		limits.Daily = new(usd.Amount(w.Int64N(int64(usd.Dollar))))
		w.setLimits(*limits)
		b.leaser.SetLimits(*version, *limits)
	case n < 992 && w.jumps:
		b.name = fmt.Sprint(b.ledgerName, w.IntN(5)) // at the next restart, or now
	}
}

func newWorld(t *testing.T, seed uint64, limits budget.Config) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 7)), t: t, history: map[string][]*Record{}, faults: true,
		limits: map[budget.LeaseID]usd.Amount{}, spent: map[budget.LeaseID]usd.Amount{},
	}
	w.late = 5 + w.IntN(60)
	w.setLimits(limits)
	time.Sleep(30*24*time.Hour - 10*time.Minute) // ten minutes before midnight: the bubble begins at the year's start
	for i := range 3 {
		b := &modelBox{w: w, name: fmt.Sprintf("box%d", i), skew: time.Duration(w.IntN(2000)-1000) * time.Millisecond}
		w.boxes = append(w.boxes, b)
		b.start(1, limits)
	}
	return w
}

func modelLimits() budget.Config {
	return budget.Config{
		Limits: budget.Limits{Daily: new(usd.Dollar / 2), Monthly: new(usd.Dollar)},
		PerKey: map[string]budget.Limits{"k": {Daily: new(10 * cent)}},
	}
}

// TestModel: whatever fails, in any order, no limit is exceeded, also not one that is set later. When all
// works again, all of the limit can be spent.
func TestModel(t *testing.T) {
	t.Parallel()
	seeds := uint64(20)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			version, limits := uint64(1), modelLimits()
			limits.Monthly = nil
			w := newWorld(t, seed, limits)
			for i := range 1500 {
				if i == 150 {
					version, limits = 2, modelLimits()
					w.setLimits(limits)
					for _, b := range w.boxes {
						b.leaser.SetLimits(version, limits)
					}
				}
				w.step(&version, &limits)
			}
			w.heal()
			w.spendAll(seed)
		})
	}
}

// FuzzModel also has clocks that jump by a day, limits that change, and boxes that get other names.
func FuzzModel(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, modelLimits())
			w.jumps = true
			version, limits := uint64(1), modelLimits()
			for range 3000 {
				w.step(&version, &limits)
			}
		})
	})
}

func (w *world) heal() {
	w.faults = false
	for _, apply := range w.delayed {
		apply()
	}
	w.delayed, w.needs = nil, nil
	for _, b := range w.boxes {
		b.reconnect(false)
		for len(b.calls) > 0 {
			b.end(0, 0)
		}
	}
	w.supplyAll()
	time.Sleep(pastInterval + time.Second) // a ledger that was locked is asked again
	w.supplyAll()
}

// supplyAll has all boxes supply their leases until no need is left.
func (w *world) supplyAll() {
	for range 4 {
		for _, b := range w.boxes {
			if err := b.leaser.supplyAll(w.t.Context(), b.session()); err != nil {
				w.t.Fatal(err)
			}
		}
		for _, n := range w.needs {
			for _, b := range w.boxes {
				if b.name != n.Box {
					b.leaser.giveBack(n)
				}
			}
		}
		w.needs = nil
	}
}

// spendAll spends until each box rejects a call for a picodollar.
func (w *world) spendAll(seed uint64) {
	refused := 0
	for i, estimate := 0, cent; refused < 3*len(w.boxes); i++ {
		b := w.boxes[i%len(w.boxes)]
		for try := 0; !b.begin("", estimate) && try < 3; try++ {
			w.supplyAll() // the client tries again
			time.Sleep(time.Second)
		}
		if len(b.calls) > 0 {
			b.end(0, estimate)
			estimate, refused = min(2*estimate, cent), 0
			continue
		}
		if refused++; refused > 2*len(w.boxes) && estimate > 1 {
			estimate, refused = estimate/2, 0
		}
	}
	now := w.boxes[0].now()
	for _, id := range windows("", now) {
		if left := limitOf(modelLimits(), id) - w.spent[id]; left == 0 {
			return
		}
	}
	w.t.Errorf("seed %d: something is left that no box can spend: %v", seed, w.spent)
	for key, list := range w.history {
		w.t.Logf("%s: %+v", key, list[len(list)-1])
	}
}
