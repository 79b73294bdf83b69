package ledger

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/usd"
)

// callsOf returns the requests of the calls that a query selects, page by page.
func callsOf(t *testing.T, l *Ledger, q CallQuery) (list []string) {
	t.Helper()
	for {
		rows, next, err := l.Calls(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			list = append(list, r.Request)
		}
		if next == "" {
			return list
		}
		q.After = next
	}
}

// TestCalls: each query finds the calls that a filter of all rows finds, the latest first,
// however many are on a page.
func TestCalls(t *testing.T) {
	l, _ := open(t, t.TempDir(), Options{})
	now := time.Now().Truncate(time.Millisecond)
	random := rand.New(rand.NewPCG(1, 2))
	var rows []Row
	for i := range 300 {
		r := randomRow(random, i)
		r.Number = l.NewNumber()
		r.Time = now.Add(-time.Duration(i/3) * 3 * time.Hour) // three at the same time
		rows = append(rows, r)
		l.Record(r)
	}
	synced(t, l)
	slices.SortFunc(rows, func(a, b Row) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return int(b.Number - a.Number)
	})
	for name, tc := range map[string]struct {
		q  CallQuery
		is func(Row) bool
	}{
		"all":     {CallQuery{}, func(Row) bool { return true }},
		"since":   {CallQuery{Since: now.Add(-50 * time.Hour)}, func(r Row) bool { return !r.Time.Before(now.Add(-50 * time.Hour)) }},
		"until":   {CallQuery{Until: now.Add(-48 * time.Hour)}, func(r Row) bool { return r.Time.Before(now.Add(-48 * time.Hour)) }},
		"model":   {CallQuery{Model: rows[0].Model}, func(r Row) bool { return r.Model == rows[0].Model }},
		"key":     {CallQuery{Key: "a"}, func(r Row) bool { return r.Key == "a" }},
		"backend": {CallQuery{Backend: "gpu"}, func(r Row) bool { return r.Backend == "gpu" }},
		"reason":  {CallQuery{Reason: "timeout"}, func(r Row) bool { return r.Reason == "timeout" }},
		"status":  {CallQuery{MinStatus: 400, MaxStatus: 599}, func(r Row) bool { return r.Status >= 400 && r.Status <= 599 }},
		"nothing": {CallQuery{Key: "nothing"}, func(Row) bool { return false }},
		"all of them": {CallQuery{Since: now.Add(-100 * time.Hour), Until: now.Add(-time.Hour), Model: rows[0].Model, MinStatus: 200}, func(r Row) bool {
			return r.Model == rows[0].Model && !r.Time.Before(now.Add(-100*time.Hour)) && r.Time.Before(now.Add(-time.Hour)) && r.Status >= 200
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, r := range rows {
				if tc.is(r) {
					want = append(want, r.Request)
				}
			}
			if n := len(want); n == len(rows) && name != "all" || n == 0 && name != "nothing" {
				t.Fatalf("it selects %d calls", n)
			}
			for _, limit := range []int{1000, 7, 100} {
				tc.q.Limit = limit
				if got := callsOf(t, l, tc.q); !slices.Equal(got, want) {
					t.Errorf("%d on a page: %d calls, want %d", limit, len(got), len(want))
				}
			}
			var got []string
			if err := l.EachCall(t.Context(), tc.q, func(r *Row) error { got = append(got, r.Request); return nil }); err != nil || !slices.Equal(got, want) {
				t.Errorf("each: %d calls, want %d, %v", len(got), len(want), err)
			}
		})
	}
	if _, _, err := l.Calls(t.Context(), CallQuery{After: "x", Limit: 1}); !errors.Is(err, ErrCursor) {
		t.Error(err)
	}
	stop := errors.New("stop")
	if err := l.EachCall(t.Context(), CallQuery{}, func(*Row) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

// TestCall: a call is found by the id that it had in flight, with all that was recorded.
func TestCall(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	attempts := []Attempt{
		{Backend: "qwen", Model: "m", Reason: "lost", Status: 200, MS: 5, Cost: new(usd.Amount(0)), Detail: `it said "no" <b>`},
		{Backend: "cloud", Skipped: true, Reason: "loading", Detail: "is loading"},
		{Backend: "cloud", Model: "x/y", Status: 200, MS: 70, Cost: new(usd.Amount(123_456))},
	}
	r := paid("mine", 7)
	r.Number, r.Time, r.Attempts, r.Charged, r.Wait, r.Reason, r.Resumed = l.NewNumber(), time.Now().UTC().Truncate(time.Millisecond), attempts, new(usd.Amount(7)), 3*time.Second, "lost", true
	pending := l.Begin(Row{Number: r.Number, Time: r.Time, Request: r.Request, Dimensions: r.Dimensions, Charged: new(usd.Amount(9))})
	l.Record(r, pending)
	plain := free("plain")
	plain.Number = l.NewNumber()
	l.Record(plain)
	synced(t, l)
	for _, want := range []*Row{&r, nil} {
		id := r.CallID()
		if want == nil {
			id.Number += 1000
		}
		text := id.String()
		id, err := ParseCallID(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Call(t.Context(), id)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%+v, want\n%+v", text, err, got, want)
		}
	}
	if got, err := l.Call(t.Context(), plain.CallID()); err != nil || got == nil || got.Attempts != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got := requests(t, dir); got["mine"] != 1 {
		t.Errorf("the database has %v", got)
	}
}

func TestCallID(t *testing.T) {
	for text, ok := range map[string]bool{
		"mhx3k2p9:4f": true, "0:0": true, "mhx3k2p9:1z141z3": true, "mhx3k2p9:1z141z4": false, "": false, ":": false, "a": false, "a:": false,
		"A:1": false, "01:1": false, "-1:1": false, "1:-1": false, "a:b:c": false,
	} {
		id, err := ParseCallID(text)
		if (err == nil) != ok || ok && id.String() != text {
			t.Errorf("%q: %v, %v", text, id, err)
		}
	}
}

// TestLongAttempts: the attempts of a row are bounded, and come back as they were stored.
func TestLongAttempts(t *testing.T) {
	long := ""
	for range 400 {
		long += "\"\\\x01é<"
	}
	var all []Attempt
	for range 100 {
		all = append(all, Attempt{Backend: long, Model: long, Reason: long, Detail: long, Status: 500})
	}
	all[99].Status = 200
	e := journal.NewEntry(1, &Row{Time: time.Now(), Request: "r", Attempts: all})
	if text := journal.AttemptsJSON(e.Attempts); len(text) > 7000 || len(e.Attempts) != 8 || e.Attempts[7].Status != 200 {
		t.Errorf("%d attempts, %d bytes: %+v", len(e.Attempts), len(text), e.Attempts[0])
	}
	l, _ := open(t, t.TempDir(), Options{})
	r := free("r")
	r.Number, r.Attempts = l.NewNumber(), all
	l.Record(r)
	synced(t, l)
	if got, err := l.Call(t.Context(), r.CallID()); err != nil || !reflect.DeepEqual(got.Attempts, e.Attempts) {
		t.Errorf("%v %+v", err, got)
	}
}

// BenchmarkCalls is the first page of a million calls, with each filter.
func BenchmarkCalls(b *testing.B) {
	dir := b.TempDir()
	l := Open(dir, Options{})
	if err := l.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	million(b, dir, 1_000_000, now)
	rare := paid("rare", 1)
	rare.Key, rare.Reason, rare.Status, rare.Backend, rare.Time = "rare", "stalled", 504, "other", now.Add(-20*24*time.Hour)
	l.Record(rare)
	if err := l.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	for name, q := range map[string]CallQuery{
		"all": {}, "since": {Since: now.Add(-7 * 24 * time.Hour)}, "key": {Key: "rare"}, "reason": {Reason: "stalled"}, "status": {MinStatus: 500},
		"backend": {Backend: "other"}, "nothing": {Model: "nothing"}, "old": {Until: now.Add(-25 * 24 * time.Hour)}, "common": {MinStatus: 200, MaxStatus: 299},
	} {
		q.Limit = 100
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				rows, _, err := l.Calls(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				n = len(rows)
			}
			b.ReportMetric(float64(n), "calls")
		})
	}
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
