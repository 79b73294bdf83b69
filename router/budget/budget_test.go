package budget

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/router/usd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dollars(s string) *usd.Amount {
	a, err := usd.Parse(s)
	if err != nil {
		panic(err)
	}
	return &a
}

func reserve(t *testing.T, b *Budget, now time.Time, key, estimate string) *Reservation {
	t.Helper()
	r, no := b.Reserve(now, key, *dollars(estimate))
	if no != nil {
		t.Fatalf("%s for %q is rejected: %s", estimate, key, no.String())
	}
	return r
}

func statusOf(t *testing.T, b *Budget, now time.Time, key string, p Period) LimitStatus {
	t.Helper()
	for _, s := range b.Statuses(now) {
		if s.Key == key && s.Period == p {
			return s
		}
	}
	t.Fatalf("no limit of key %q, %s", key, p)
	return LimitStatus{}
}

// Two hundred concurrent calls against a limit of one dollar, each of which costs up to its
// estimate; then the next day.
func TestNeverExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := *dollars("1")
		var warnings []Warning
		var mu sync.Mutex
		b := New(Config{Limits: Limits{Daily: &one}}, func(w Warning) {
			mu.Lock()
			defer mu.Unlock()
			warnings = append(warnings, w)
		})
		for day := range 3 {
			var spent usd.Amount
			var refused int
			var calls sync.WaitGroup
			for i := range 200 {
				calls.Go(func() {
					random := rand.New(rand.NewPCG(uint64(day), uint64(i)))
					time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
					estimate := usd.Amount(random.Int64N(int64(one / 10)))
					r, no := b.Reserve(time.Now(), "", estimate)
					if no != nil {
						if no.RetryAfter <= 0 || !time.Now().Add(no.RetryAfter).Equal(no.Ends) || no.Ends.UTC().Hour() != 0 {
							t.Errorf("retry after %s, until %s", no.RetryAfter, no.Ends)
						}
						mu.Lock()
						refused++
						mu.Unlock()
						return
					}
					time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
					actual := usd.Amount(random.Int64N(int64(estimate) + 1))
					if random.IntN(10) == 0 {
						actual = 0
						r.Cancel()
					} else {
						r.Settle(actual)
					}
					r.Settle(one) // has no effect
					mu.Lock()
					defer mu.Unlock()
					if spent += actual; spent > one {
						t.Errorf("day %d: %s of 1 USD is spent", day, spent)
					}
				})
			}
			calls.Wait()
			s := statusOf(t, b, time.Now(), "", Daily)
			if s.Spent != spent || s.Reserved != 0 || s.Limit != one {
				t.Errorf("day %d: status %+v, want %s spent", day, s, spent)
			}
			if refused == 0 || spent < one*8/10 || len(warnings) != day+1 {
				t.Fatalf("day %d: %d refused, %s spent, %d warnings", day, refused, spent, len(warnings))
			}
			_, no := b.Reserve(time.Now(), "", one)
			if no == nil {
				t.Fatal("a call for the whole limit is accepted")
			}
			time.Sleep(no.RetryAfter - time.Nanosecond)
			if r, _ := b.Reserve(time.Now(), "", one); r != nil {
				t.Fatal("accepted before the window has ended")
			}
			time.Sleep(time.Nanosecond)
		}
	})
}

var noon = time.Date(2026, 2, 27, 12, 0, 0, 0, time.UTC)

func TestLimits(t *testing.T) {
	config := Config{
		Limits: Limits{Daily: dollars("5"), Monthly: dollars("8")},
		PerKey: map[string]Limits{"tool": {Daily: dollars("1")}, "none": {Monthly: dollars("0")}},
	}
	for name, c := range map[string]struct {
		spent    map[string]string
		key      string
		estimate string
		want     string // whose limit; "" = allowed
		until    string
	}{
		"the limit itself":           {nil, "", "5", "", ""},
		"a picodollar above":         {nil, "", "5.000000000001", "daily budget", "2026-02-28T00:00:00Z"},
		"its own limit":              {map[string]string{"tool": "0.5"}, "tool", "0.6", "daily budget of key tool", "2026-02-28T00:00:00Z"},
		"another key's is its own":   {map[string]string{"tool": "1"}, "other", "1", "", ""},
		"all count for all":          {map[string]string{"a": "2", "b": "2", "": "0.5"}, "c", "0.6", "daily budget", "2026-02-28T00:00:00Z"},
		"nothing is allowed":         {nil, "none", "0", "monthly budget of key none", "2026-03-01T00:00:00Z"},
		"the longest counts":         {nil, "tool", "9", "monthly budget", "2026-03-01T00:00:00Z"},
		"unknown, something is left": {map[string]string{"": "4.999999999999"}, "", "0", "", ""},
		"unknown, nothing is left":   {map[string]string{"": "5"}, "", "0", "daily budget", "2026-02-28T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(config, nil)
			for key, amount := range c.spent {
				reserve(t, b, noon, key, amount).Settle(*dollars(amount))
			}
			r, no := b.Reserve(noon, c.key, *dollars(c.estimate))
			if (r == nil) != (no != nil) || (no != nil) != (c.want != "") {
				t.Fatalf("got %v, %v", r, no)
			}
			if no == nil {
				return
			}
			if !strings.Contains(no.String(), c.want+" of") || strings.Contains(no.String(), c.want+" of key") {
				t.Errorf("refused with %q, want %q", no.String(), c.want)
			}
			if got := noon.Add(no.RetryAfter).Format(time.RFC3339); got != c.until {
				t.Errorf("until %s, want %s", got, c.until)
			}
			for _, s := range b.Statuses(noon) {
				if s.Reserved != 0 {
					t.Errorf("a rejected call has a reservation: %+v", s)
				}
			}
		})
	}
}

// The message for a client with a key has the amounts of the key's limit, and not what all
// keys have spent.
func TestExceededOfAKey(t *testing.T) {
	b := New(Config{Limits: Limits{Daily: dollars("1")}, PerKey: map[string]Limits{"own": {Daily: dollars("0.5")}}}, nil)
	reserve(t, b, noon, "other", "0.7").Settle(*dollars("0.7"))
	_, no := b.Reserve(noon, "tool", *dollars("0.4"))
	if want := "the daily budget of all keys does not allow this call, which may cost 0.40 USD; paid calls are accepted again after 2026-02-28T00:00:00Z; local calls are not affected"; no == nil || no.String() != want {
		t.Errorf("%v\nwant %s", no, want)
	}
	reserve(t, b, noon, "own", "0.2").Settle(*dollars("0.2"))
	if no := b.Check(noon, "own", *dollars("0.31")); no == nil || no.Key != "" || strings.Contains(no.String(), "0.90") {
		t.Errorf("%v", no)
	}
	b = New(Config{PerKey: map[string]Limits{"own": {Daily: dollars("0.5")}}}, nil)
	reserve(t, b, noon, "own", "0.3").Settle(*dollars("0.3"))
	if no := b.Check(noon, "own", *dollars("0.3")); no == nil || !strings.Contains(no.String(), "of key own of 0.50 USD does not allow") || !strings.Contains(no.String(), "0.30 USD is spent") {
		t.Errorf("%v", no)
	}
}

func TestHeld(t *testing.T) {
	b := New(Config{Limits: Limits{Daily: dollars("1")}}, nil)
	r := reserve(t, b, noon, "", "0.7")
	if _, no := b.Reserve(noon, "", *dollars("0.4")); no == nil || !no.Temporary() || !strings.Contains(no.String(), "0.70 USD is reserved") {
		t.Errorf("while a call is under way: %v", no)
	}
	r.Settle(*dollars("0.7"))
	if _, no := b.Reserve(noon, "", *dollars("0.4")); no == nil || no.Temporary() || !strings.Contains(no.String(), "0.70 USD is spent") {
		t.Errorf("when it is paid for: %v", no)
	}
	reserve(t, b, noon, "", "0.3").Cancel()
	if r, no := b.Reserve(noon, "", -usd.Dollar); no != nil || r.estimate != 0 {
		t.Errorf("an estimate below 0 is reserved: %+v, %v", r, no)
	}
}

// A call belongs to the day on which it began.
func TestMidnight(t *testing.T) {
	b := New(Config{Limits: Limits{Daily: dollars("1"), Monthly: dollars("1.5")}}, nil)
	r := reserve(t, b, noon, "", "1")
	tomorrow := noon.Add(24 * time.Hour)
	if s := statusOf(t, b, tomorrow, "", Daily); s.Reserved != 0 {
		t.Errorf("the next day begins with %+v", s)
	}
	r.Settle(*dollars("1"))
	if s := statusOf(t, b, tomorrow, "", Daily); s.Spent != 0 {
		t.Errorf("yesterday's call is booked today: %+v", s)
	}
	if s := statusOf(t, b, tomorrow, "", Monthly); s.Spent != usd.Dollar {
		t.Errorf("the month has %+v", s)
	}
	if _, no := b.Reserve(tomorrow, "", *dollars("1")); no == nil || no.Period != Monthly || !no.Ends.Equal(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the month's limit is passed: %v", no)
	}
	reserve(t, b, noon.Add(48*time.Hour), "", "1").Cancel()
}

// A clock that is set back does not reset a budget, and one that was years ahead for a
// moment does not block calls for years.
func TestClock(t *testing.T) {
	b := New(Config{Limits: Limits{Daily: dollars("1")}}, nil)
	ahead := reserve(t, b, noon.AddDate(3, 0, 0), "", "1")
	if _, no := b.Reserve(noon, "", *dollars("1")); no == nil || no.RetryAfter != 12*time.Hour {
		t.Errorf("the reservation is forgotten, or kept for years: %v", no)
	}
	ahead.Settle(*dollars("0.9"))
	if s := statusOf(t, b, noon, "", Daily); s.Spent != *dollars("0.9") || s.Reserved != 0 {
		t.Errorf("status %+v", s)
	}
	reserve(t, b, noon.Add(12*time.Hour), "", "1").Cancel()
}

// A clock that jumps a day ahead and back finds what was spent before the jump.
func TestClockThatJumps(t *testing.T) {
	b := New(Config{Limits: Limits{Daily: dollars("1"), Monthly: dollars("10")}}, nil)
	reserve(t, b, noon, "", "0.9").Settle(*dollars("0.9"))
	running := reserve(t, b, noon, "", "0.1")
	for _, days := range []int{1, 1, 40, 400} {
		reserve(t, b, noon.AddDate(0, 0, days), "", "0.2").Settle(*dollars("0.2"))
		if _, no := b.Reserve(noon, "", *dollars("0.1")); no == nil || no.Spent != *dollars("0.9") || no.Reserved != *dollars("0.1") {
			t.Fatalf("after a jump of %d days and back: %+v", days, no)
		}
	}
	running.Cancel()
	for _, days := range []int{-1, -40} {
		if _, no := b.Reserve(noon.AddDate(0, 0, days), "", *dollars("0.2")); no == nil {
			t.Errorf("a clock that is set back by %d days empties the budget", -days)
		}
		if _, no := b.Reserve(noon, "", *dollars("0.2")); no == nil {
			t.Errorf("the day has a second budget after a jump back by %d days", -days)
		}
	}
}

func TestWarnings(t *testing.T) {
	var got []string
	config := func(daily string) Config {
		return Config{Limits: Limits{Daily: dollars(daily)}, PerKey: map[string]Limits{"k": {Daily: dollars("1")}}}
	}
	b := New(config("10"), func(w Warning) { got = append(got, w.String()) })
	pay := func(now time.Time, amount string, want ...string) {
		t.Helper()
		got = nil
		reserve(t, b, now, "k", amount).Settle(*dollars(amount))
		if len(got) != len(want) {
			t.Fatalf("after %s the warnings are %q, want %q", amount, got, want)
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("after %s: %q, want %q", amount, got[i], want[i])
			}
		}
	}
	pay(noon, "0.799999999999")
	pay(noon, "0.000000000001", "0.80 USD of the daily budget of key k is spent, 80 % of 1.00 USD, until 2026-02-28T00:00:00Z")
	pay(noon, "0.1")
	tomorrow := noon.Add(24 * time.Hour)
	pay(tomorrow, "0.9", "90 %")
	b.SetConfig(config("1"))
	pay(tomorrow, "0.05", "0.95 USD of the daily budget is spent, 95 %")
	b.SetConfig(config("2"))
	b.SetConfig(config("1"))
	pay(tomorrow, "0.01", "96 %") // the limit was further away for a while
	pay(tomorrow, "0.01")

	// A call that ends after its window causes no warning.
	late := reserve(t, b, tomorrow.Add(24*time.Hour), "k", "1")
	reserve(t, b, tomorrow.Add(48*time.Hour), "k", "0.1").Cancel()
	got = nil
	if late.Settle(usd.Dollar); len(got) != 0 {
		t.Errorf("warned of a day that is over: %q", got)
	}
}

func TestRestore(t *testing.T) {
	warned := 0
	b := New(Config{Limits: Limits{Daily: dollars("1"), Monthly: dollars("50")}, PerKey: map[string]Limits{"k": {Daily: dollars("0.95")}}}, func(Warning) { warned++ })
	late := reserve(t, b, noon.Add(time.Second), "k", "0.05") // before the ledger could say
	if err := b.Restore(noon, func(_, _ time.Time) (map[string]usd.Amount, error) { return nil, errors.New("locked") }); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("error %v", err)
	}
	ledger := func(from, to time.Time) (map[string]usd.Amount, error) {
		switch {
		case !to.Equal(noon):
			t.Errorf("asked up to %s", to)
		case from.Equal(time.Date(2026, 2, 27, 0, 0, 0, 0, time.UTC)):
			return map[string]usd.Amount{"k": *dollars("0.8"), "": *dollars("0.1")}, nil
		case from.Equal(time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)):
			return map[string]usd.Amount{"k": *dollars("20"), "gone": *dollars("7")}, nil
		default:
			t.Errorf("asked from %s", from)
		}
		return nil, nil
	}
	if err := b.Restore(noon, ledger); err != nil {
		t.Fatal(err)
	}
	late.Settle(*dollars("0.04"))
	for _, want := range []LimitStatus{
		{Key: "", Period: Daily, Spent: *dollars("0.94")}, {Key: "", Period: Monthly, Spent: *dollars("27.04")}, {Key: "k", Period: Daily, Spent: *dollars("0.84")},
	} {
		if s := statusOf(t, b, noon, want.Key, want.Period); s.Spent != want.Spent || s.Reserved != 0 {
			t.Errorf("status %+v, want %s spent", s, want.Spent)
		}
	}
	if _, no := b.Reserve(noon, "", *dollars("0.07")); no == nil {
		t.Error("what was spent before the start is forgotten")
	}
	if warned != 0 {
		t.Errorf("warned %d times of what was spent before the start", warned)
	}

	next := New(Config{Limits: Limits{Daily: dollars("1")}}, nil)
	reserve(t, next, noon.Add(24*time.Hour), "", "0.5").Cancel()
	if err := next.Restore(noon, ledger); err != nil {
		t.Fatal(err)
	}
	if s := statusOf(t, next, noon.Add(24*time.Hour), "", Daily); s.Spent != 0 {
		t.Errorf("a ledger that answers after midnight fills the new day: %+v", s)
	}
}

func TestNoBudget(t *testing.T) {
	var b *Budget
	r, no := b.Reserve(noon, "k", usd.Max)
	if no != nil || b.Statuses(noon) != nil {
		t.Errorf("without a budget: %v", no)
	}
	r.Settle(usd.Dollar)
	r.Cancel()
}

func TestConfig(t *testing.T) {
	var c Config
	decoder := yaml.NewDecoder(strings.NewReader("daily: 5\nmonthly: 50.5\nper_key:\n  tool: {daily: 0.10}\n"))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if *c.Daily != *dollars("5") || *c.Monthly != *dollars("50.5") || *c.PerKey["tool"].Daily != *dollars("0.1") || c.PerKey["tool"].Monthly != nil {
		t.Errorf("read %+v", c)
	}
}
