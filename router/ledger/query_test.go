package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/usd"
)

var today = time.Date(2026, 3, 10, 15, 30, 0, 0, time.UTC)

// randomRow is a row of the sixty days before today, and some of today.
func randomRow(random *rand.Rand, id int) Row {
	r := Row{
		Time: today.Add(-time.Duration(random.Int64N(int64(60 * 24 * time.Hour)))).Truncate(time.Millisecond), Request: fmt.Sprint(id),
		Dimensions: Dimensions{
			Key: []string{"", "a", "b"}[random.IntN(3)], Model: []string{"x", "y"}[random.IntN(2)], Backend: []string{"", "gpu", "cloud"}[random.IntN(3)],
			Reason: []string{"", "failed", "timeout"}[random.IntN(3)], Status: []int{200, 429, 503}[random.IntN(3)],
			Local: random.IntN(2) == 0, LocalPrimary: random.IntN(2) == 0, Paid: random.IntN(2) == 0, Resumed: random.IntN(9) == 0, Partial: random.IntN(9) == 0,
		},
		FirstAnswer: time.Duration(random.IntN(3)) * time.Second, Duration: time.Duration(random.IntN(5000)) * time.Millisecond,
	}
	if random.IntN(10) == 0 { // at the edges of days
		r.Time = r.Time.Truncate(24 * time.Hour).Add(time.Duration(random.IntN(3)-1) * time.Millisecond)
	}
	figure := func(n int64) *int64 {
		if random.IntN(5) == 0 {
			return nil
		}
		return new(random.Int64N(n))
	}
	r.Prompt, r.Cached, r.Completion = figure(10_000), figure(100), figure(1000)
	if r.Prompt != nil && r.Cached != nil {
		r.Cached = new(min(*r.Cached, *r.Prompt)) // a part of it
	}
	if n := figure(1e12); n != nil {
		r.Cost = new(usd.Amount(*n))
	}
	if n := figure(1e12); n != nil && random.IntN(2) == 0 {
		r.Charged = new(usd.Amount(*n))
	}
	if n := figure(1e12); n != nil {
		r.Saved = new(usd.Amount(*n))
	}
	return r
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// sumRows adds rows up one by one.
func sumRows(rows []Row, from, to time.Time, by By) (groups []Group) {
	sums := map[string]*Sums{}
	for _, r := range rows {
		if r.Time.Before(from) || !r.Time.Before(to) {
			continue
		}
		name := map[By]string{
			ByModel: r.Model, ByServed: r.Served, ByRoute: r.Route, ByBackend: r.Backend, ByKey: r.Key, ByReason: r.Reason, ByDay: r.Time.Format(time.DateOnly),
			ByFallbackReason: cmp.Or(r.Reason, "lost"),
		}[by]
		if by == ByFallbackReason && (!r.LocalPrimary || !r.Paid && !r.Resumed && (r.Local || r.Backend == "" || r.Reason == "")) {
			continue
		}
		if sums[name] == nil {
			sums[name] = &Sums{}
		}
		one := func(yes bool) int64 {
			if yes {
				return 1
			}
			return 0
		}
		s := Sums{
			Calls: 1, Failed: one(r.Status >= 400), Local: one(r.Local), Paid: one(r.Paid), Resumed: one(r.Resumed), Partial: one(r.Partial),
			Prompt: orZero(r.Prompt), Cached: orZero(r.Cached), Completion: orZero(r.Completion), UnknownTokens: one((r.Prompt == nil || r.Completion == nil) && (r.Status < 400 || r.Partial)),
			UnknownCost: one(r.Paid && r.Cost == nil), UnknownSaved: one(r.Local && r.Status < 400 && r.Saved == nil),
			Answers: one(r.FirstAnswer > 0), FirstAnswer: r.FirstAnswer, Duration: r.Duration,
		}
		if r.Cost != nil {
			s.Cost, s.Charged = *r.Cost, *r.Cost
		}
		if r.Charged != nil {
			s.Charged = *r.Charged
		}
		if r.Saved != nil {
			s.Saved = *r.Saved
		}
		sums[name].Add(s)
	}
	for name, s := range sums {
		groups = append(groups, Group{name, *s})
	}
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return groups
}

// Sums of any span are those of its rows, by whatever they are added up; also when
// rows come late, come twice, or are deleted by now.
func TestSumsAreExact(t *testing.T) {
	random := rand.New(rand.NewPCG(3, uint64(time.Now().UnixNano())))
	dir := t.TempDir()
	now := atomic.Pointer[time.Time]{}
	now.Store(&today)
	options := Options{now: func() time.Time { return *now.Load() }}
	l, _ := open(t, dir, options)
	var rows []Row
	more := func(n int) {
		for range n {
			rows = append(rows, randomRow(random, len(rows)))
			l.Record(rows[len(rows)-1])
		}
		synced(t, l)
	}
	check := func(spans int, keep time.Duration) {
		t.Helper()
		for i := range spans {
			from := today.Add(-time.Duration(random.Int64N(int64(70 * 24 * time.Hour))))
			to := from.Add(time.Duration(random.Int64N(int64(90 * 24 * time.Hour))))
			switch i % 6 {
			case 0:
				from, to = time.Time{}, time.Time{}
			case 1:
				from = from.Truncate(24 * time.Hour)
			case 2:
				to = to.Truncate(24 * time.Hour)
			case 3:
				to = from.Add(time.Duration(random.Int64N(int64(24 * time.Hour))))
			case 4:
				to = time.Time{}
			}
			by := []By{ByModel, ByBackend, ByKey, ByReason, ByDay, ByServed, ByRoute, ByFallbackReason}[i%8]
			u := usage(t, l, from, to, by)
			ofKey, err := l.UsagesOf(t.Context(), "a", from, to, by)
			if err != nil {
				t.Fatal(err)
			}
			if to.IsZero() {
				to = now.Load().Add(24 * time.Hour)
			}
			since := now.Load().Add(-keep).Truncate(24 * time.Hour)
			if keep > 0 && from.Before(since) {
				from = from.Truncate(24 * time.Hour)
			}
			if keep > 0 && to.Before(since) {
				to = to.Add(24*time.Hour - 1).Truncate(24 * time.Hour)
			}
			if !u.From.Equal(from.Truncate(time.Millisecond)) && !from.IsZero() {
				t.Fatalf("it begins at %s, not at %s", u.From, from)
			}
			from, to = from.Truncate(time.Millisecond), to.Truncate(time.Millisecond)
			if want := sumRows(rows, from, to, by); !slices.Equal(u.Groups, want) {
				t.Fatalf("from %s to %s by %s:\n%+v\nwant\n%+v", from, to, by, u.Groups, want)
			}
			ofA := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Key != "a" })
			if want := sumRows(ofA, from, to, by); !slices.Equal(ofKey[0].Groups, want) {
				t.Fatalf("of one key from %s to %s by %s:\n%+v\nwant\n%+v", from, to, by, ofKey[0].Groups, want)
			}
			var total Sums
			for _, g := range u.Groups {
				total.Add(g.Sums)
			}
			if u.Total != total {
				t.Fatalf("total %+v, want %+v", u.Total, total)
			}
		}
	}
	more(800)
	check(24, 0)

	// The same rows come again, as from a journal that was imported before a crash.
	l.mu.Lock()
	run := l.run
	l.mu.Unlock()
	closeLedger(t, l)
	var lines []byte
	for i, r := range rows {
		lines = append(lines, lineOf(run|int64(i+1), r)...)
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.journal-00000001-000001.jsonl"), lines, 0o600); err != nil {
		t.Fatal(err)
	}
	const keep = 20 * 24 * time.Hour
	options.Retention = keep
	l, _ = open(t, dir, options)
	synced(t, l)
	for kept := -1; kept != 0; time.Sleep(50 * time.Millisecond) { // the deleting is not in a hurry
		withDatabase(t, dir, func(db *sql.DB) error {
			return db.QueryRow("SELECT count(*) FROM calls WHERE time < ?", timeText(today.Add(-keep).Truncate(24*time.Hour).UnixMilli())).Scan(&kept)
		})
	}
	if found := len(rowsOf(t, dir)); found == 0 || found > len(rows)/2 {
		t.Errorf("%d of %d rows are kept", found, len(rows))
	}
	check(24, keep)
	more(300) // late ones too
	check(24, keep)
}

func rowsOf(t *testing.T, dir string) (requests []string) {
	t.Helper()
	withDatabase(t, dir, func(db *sql.DB) error {
		rows, err := db.Query("SELECT request FROM calls")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var request string
			if err := rows.Scan(&request); err != nil {
				return err
			}
			requests = append(requests, request)
		}
		return rows.Err()
	})
	return requests
}

// Whole days come from their sums: of a month's rows no more are read than those
// of the hours at its ends, and those by the table's key.
func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		from, to, since, now int64 // hours
		want                 span  // days, and hours
	}{
		"up to now":             {50, 1000, 0, 999, span{fromDay: 3, toDay: 42, left: 50, leftEnd: 72, right: 1008, rightEnd: 1000}},
		"whole days":            {48, 96, 0, 999, span{fromDay: 2, toDay: 4, left: 48, leftEnd: 48, right: 96, rightEnd: 96}},
		"both ends":             {50, 100, 0, 999, span{fromDay: 3, toDay: 4, left: 50, leftEnd: 72, right: 96, rightEnd: 100}},
		"two halves":            {50, 80, 0, 999, span{fromDay: 3, toDay: 3, left: 50, leftEnd: 72, right: 72, rightEnd: 80}},
		"within a day":          {50, 60, 0, 999, span{fromDay: 2, toDay: 2, left: 50, leftEnd: 60}},
		"deleted":               {50, 80, 5, 999, span{from: 48, to: 96, fromDay: 2, toDay: 4, left: 48, leftEnd: 48, right: 96, rightEnd: 96}},
		"the beginning deleted": {50, 130, 5, 999, span{from: 48, to: 130, fromDay: 2, toDay: 5, left: 48, leftEnd: 48, right: 120, rightEnd: 130}},
		"backwards":             {60, 50, 0, 999, span{from: 60, to: 60, fromDay: 2, toDay: 2, left: 60, leftEnd: 60}},
	} {
		const hour = 3_600_000
		want := c.want
		if want.from == 0 {
			want.from, want.to = c.from, c.to
		}
		for _, p := range []*int64{&want.from, &want.to, &want.left, &want.leftEnd, &want.right, &want.rightEnd} {
			*p *= hour
		}
		if got := splitSpan(c.from*hour, c.to*hour, c.since, c.now*hour); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}

	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	synced(t, l)
	plan := planOf(t, dir, fmt.Sprintf(rollup, "model", ""))
	for step, times := range map[string]int{
		"SEARCH day USING PRIMARY KEY (day>? AND day<?)": 1, "SEARCH kind USING INTEGER PRIMARY KEY": 1, "SEARCH calls USING PRIMARY KEY (time>? AND time<?)": 2,
	} {
		if strings.Count(plan, step) != times {
			t.Errorf("%q is not %d times in the plan:\n%s", step, times, plan)
		}
	}
	if strings.Contains(plan, "SCAN calls") || strings.Contains(plan, "SCAN day") {
		t.Errorf("all is read:\n%s", plan)
	}
}

// planOf returns how a query is run.
func planOf(t *testing.T, dir, query string) (plan string) {
	t.Helper()
	withDatabase(t, dir, func(db *sql.DB) error {
		rows, err := db.Query("EXPLAIN QUERY PLAN "+query, 1, 2, "3", "4", "5", "6", "")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				return err
			}
			plan += detail + "\n"
		}
		return rows.Err()
	})
	return plan
}

// million fills a database with so many rows of the 40 days before now.
func million(tb testing.TB, dir string, n int, now time.Time) {
	tb.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, databaseName), "synchronous(OFF)"))
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	for _, text := range []string{
		`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49)
INSERT INTO kind SELECT i + 1, 'key' || i % 5, 'route' || i, 'model' || i % 7, 'backend' || i % 2, 'served', CASE i % 4 WHEN 0 THEN 'timeout' ELSE '' END,
200, 1, i % 2, 1, 1 - i % 2, 0, 0 FROM n`,
		fmt.Sprintf(`WITH RECURSIVE n(i, t) AS (SELECT 0, %d UNION ALL SELECT i + 1, t + %d FROM n WHERE i < %d)
INSERT INTO calls SELECT strftime('%%Y-%%m-%%dT%%H:%%M:%%fZ', t / 1000.0, 'unixepoch'), i, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
	"key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial, 1000, 0, 20, 1234567, 1234567, NULL, 300, 1000, NULL, NULL
FROM n CROSS JOIN kind ON kind.id = i %% 50 + 1`,
			now.UnixMilli()-40*journal.DayLength, 40*journal.DayLength/n, n-1),
		`INSERT INTO day SELECT unixepoch(calls.time) / 86400, kind.id, count(*), sum(prompt), sum(cached), sum(completion), 0, sum(cost), 0, 0, count(*), count(*), sum(first_ms), sum(ms), sum(charged)
FROM calls JOIN kind USING ("key", route, model, backend, served, reason) GROUP BY 1, 2`,
	} {
		if _, err := db.ExecContext(context.Background(), text); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkUsage is `llmsup usage --since 30d` on a million rows.
func BenchmarkUsage(b *testing.B) {
	dir := b.TempDir()
	l := Open(dir, Options{})
	if err := l.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	million(b, dir, 1_000_000, now)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		all, err := l.Usages(b.Context(), now.Add(-30*24*time.Hour), time.Time{}, ByModel)
		if err != nil {
			b.Fatal(err)
		}
		if u := all[0]; u.Total.Calls < 740_000 || u.Total.Calls > 760_000 || u.Total.Cost != usd.Amount(u.Total.Calls)*1_234_567 {
			b.Fatal(u.Total)
		}
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N), "go-B/op")
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRecord is what a row costs, from the call to the database, at 250 and at
// 2,500 rows a commit.
func BenchmarkRecord(b *testing.B) {
	for _, rows := range []int{250, 2500} {
		b.Run(fmt.Sprintf("%d rows a commit", rows), func(b *testing.B) {
			l := Open(b.TempDir(), Options{})
			if err := l.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
			r := free("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
			n := 0
			before := cpuTime(b)
			for b.Loop() {
				r.Time = r.Time.Add(time.Millisecond)
				l.Record(r).Wait()
				if n++; n%rows == 0 {
					if err := l.Sync(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := l.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(n), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process has computed so far, which the machine's other work
// disturbs less than the time that passed.
func cpuTime(b *testing.B) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}
