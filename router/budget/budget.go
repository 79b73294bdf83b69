// Package budget limits what is paid per day and per month, in total and for each key.
// The router reserves an estimate before a paid call, and settles the reservation with
// the actual cost; at the start the daemon restores what the ledger has recorded. The
// package computes no cost, stores nothing, and never blocks a call.
//
// Days and months are UTC's, like the ledger's days and OpenRouter's limits: no day has
// 23 or 25 hours, and a server that changes its time zone neither loses a day's spending
// nor counts it twice.
package budget

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Limits are the highest amounts that may be paid in a window. nil = no limit; 0 =
// nothing may be paid.
type Limits struct {
	Daily   *usd.Amount `yaml:"daily"`
	Monthly *usd.Amount `yaml:"monthly"`
}

// Config is the limits of a configuration.
type Config struct {
	Limits `yaml:",inline"`
	PerKey map[string]Limits `yaml:"per_key"` // by key name; a key that is not listed has only the common limits
}

// Period is the length of a limit's window.
type Period int

// The periods.
const (
	Daily Period = iota
	Monthly
)

var periods = []Period{Daily, Monthly}

func (p Period) String() string {
	if p == Monthly {
		return "monthly"
	}
	return "daily"
}

// windowAt returns the window that contains a time.
func (p Period) windowAt(now time.Time) (from, to time.Time) {
	year, month, day := now.UTC().Date()
	if p == Monthly {
		from = time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
		return from, from.AddDate(0, 1, 0)
	}
	from = time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	return from, from.AddDate(0, 0, 1)
}

// limit returns the limit of an account; nil = none.
func (c *Config) limit(id accountID) *usd.Amount {
	if id.key == allKeys {
		return c.limitOf(id.period)
	}
	return c.PerKey[id.key].limitOf(id.period)
}

func (l Limits) limitOf(p Period) *usd.Amount {
	if p == Monthly {
		return l.Monthly
	}
	return l.Daily
}

// allKeys is the name of the account of all calls. No key has it.
const allKeys = ""

// warnPercent is the share of a limit from which on the operator is warned.
const warnPercent = 80

// account is what one key, or all calls, have spent in a window, and what is reserved for
// calls in flight. A call settles with the account of the window in which it began, even
// if that window is over.
type account struct {
	spent, reserved usd.Amount
	warned          bool
}

// windowAccount is a window and its account. The last ones are kept, so that after a
// clock jumps forward and back the account is still there.
type windowAccount struct {
	from, to time.Time
	*account
}

type accountID struct {
	key    string
	period Period
}

// Budget is the accounts of all keys. It is safe for concurrent use. A nil Budget allows
// everything.
type Budget struct {
	warn func(Warning)

	mu       sync.Mutex
	config   Config
	accounts map[accountID][]windowAccount // the most recently used one is the last
	fleet    fleetLimits
}

// keptWindows is how many accounts are kept for each key and period.
const keptWindows = 3

// New returns a budget of which nothing is spent. It calls warn, which may be nil, once
// per window when warnPercent of a limit are spent.
func New(config Config, warn func(Warning)) *Budget {
	return &Budget{
		warn: warn, config: config, accounts: map[accountID][]windowAccount{}, fleet: fleetLimits{wanted: make(chan struct{}, 1)},
	}
}

// windowOf returns the window that contains now, and moves it to the end of its list. The
// caller holds the mutex.
func (b *Budget) windowOf(id accountID, now time.Time) windowAccount {
	from, to := id.period.windowAt(now)
	list := b.accounts[id]
	if n := len(list); n > 0 && list[n-1].from.Equal(from) {
		return list[n-1]
	}
	w := windowAccount{from, to, &account{}}
	if i := slices.IndexFunc(list, func(w windowAccount) bool { return w.from.Equal(from) }); i >= 0 {
		w = list[i]
		list = slices.Delete(list, i, i+1)
	} else if len(list) > 0 {
		// A clock that is set back to before the first window does not reset the account.
		first := slices.MinFunc(list, func(a, b windowAccount) int { return a.from.Compare(b.from) })
		if from.Before(first.from) {
			w.account = first.account
		}
	}
	list = append(list, w)
	b.accounts[id] = list[max(len(list)-keptWindows, 0):]
	return w
}

// limit returns this box's limit of an account; nil = none.
func (b *Budget) limit(id accountID) *usd.Amount { return b.config.limit(id) }

// accountIDs are the accounts that count a key's calls. Accounts without a limit count, too:
// a reload may add one.
func accountIDs(key string) []accountID {
	var list []accountID
	for _, p := range periods {
		list = append(list, accountID{allKeys, p})
		if key != allKeys {
			list = append(list, accountID{key, p})
		}
	}
	return list
}

// Reservation is an amount that is reserved for a call. It is settled or cancelled once;
// further calls have no effect.
type Reservation struct {
	budget   *Budget
	estimate usd.Amount
	ids      []accountID
	accounts []windowAccount
	leases   []*Lease
	settled  bool
}

// Limited returns whether any limit applies to a key's calls.
func (b *Budget) Limited(key string) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range []*Config{&b.config, &b.fleet.config} {
		for _, p := range periods {
			if c.limit(accountID{allKeys, p}) != nil || c.limit(accountID{key, p}) != nil {
				return true
			}
		}
	}
	return false
}

// Check returns the limit that a call would exceed now, like Reserve, but reserves
// nothing; nil = none.
func (b *Budget) Check(now time.Time, key string, estimate usd.Amount) *Exceeded {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.exceeded(accountIDs(key), now, max(estimate, 0))
}

// exceeded returns the limit that an estimate would exceed; of several, the one whose
// window ends last. The caller holds the mutex.
func (b *Budget) exceeded(ids []accountID, now time.Time, estimate usd.Amount) (exceeded *Exceeded) {
	for _, id := range ids {
		a, limit := b.windowOf(id, now), b.limit(id)
		if limit == nil || a.spent+a.reserved+estimate <= *limit && a.spent+a.reserved < *limit {
			continue
		}
		if exceeded == nil || a.to.After(exceeded.Ends) {
			exceeded = &Exceeded{Key: id.key, Period: id.period, Limit: *limit, Spent: a.spent, Reserved: a.reserved, Ends: a.to}
		}
	}
	if exceeded == nil {
		exceeded = b.exceededOfFleet(ids, now, estimate)
	}
	if exceeded != nil {
		exceeded.Estimate, exceeded.RetryAfter, exceeded.hasKey = estimate, max(exceeded.Ends.Sub(now), 0), len(ids) > len(periods)
	}
	return exceeded
}

// Reserve reserves the highest expected cost of a call that began at the time now, or returns
// the limit that it would exceed. key is the name of the client's key, or "". Concurrent calls
// cannot exceed a limit together unless one costs more than its estimate. With an
// estimate of 0, for an unknown price, Reserve only requires that something is left.
func (b *Budget) Reserve(now time.Time, key string, estimate usd.Amount) (*Reservation, *Exceeded) {
	if b == nil {
		return nil, nil
	}
	estimate = max(estimate, 0)
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &Reservation{budget: b, estimate: estimate, ids: accountIDs(key)}
	if exceeded := b.exceeded(r.ids, now, estimate); exceeded != nil {
		return nil, exceeded
	}
	r.leases = b.take(r.ids, now, estimate)
	for _, id := range r.ids {
		a := b.windowOf(id, now)
		a.reserved += estimate
		r.accounts = append(r.accounts, a)
	}
	return r, nil
}

// Settle replaces the reservation by the actual cost.
func (r *Reservation) Settle(actual usd.Amount) {
	if r == nil {
		return
	}
	b := r.budget
	b.mu.Lock()
	var warnings []Warning
	if !r.settled {
		r.settled = true
		for i, a := range r.accounts {
			a.reserved -= r.estimate
			a.spent += max(actual, 0)
			warnings = append(warnings, b.dueWarnings(r.ids[i], a)...)
		}
		b.settle(r.leases, r.estimate, max(actual, 0))
	}
	b.mu.Unlock()
	if b.warn != nil {
		for _, w := range warnings {
			b.warn(w)
		}
	}
}

// Cancel ends the reservation of a call that cost nothing.
func (r *Reservation) Cancel() { r.Settle(0) }

// dueWarnings returns the warning that is due for an account. There is none for a window
// that is over.
func (b *Budget) dueWarnings(id accountID, a windowAccount) []Warning {
	limit := b.limit(id)
	list := b.accounts[id]
	if limit == nil || a.warned || list[len(list)-1].account != a.account || !isNear(a.spent, *limit) {
		return nil
	}
	a.warned = true
	return []Warning{{Key: id.key, Period: id.period, Limit: *limit, Spent: a.spent, Ends: a.to}}
}

// isNear returns whether warnPercent of a limit are spent. A limit of 0 has no warning.
func isNear(spent, limit usd.Amount) bool { return limit > 0 && spent >= limit*warnPercent/100 }

// Spent returns what was paid in a span of time, by key name, with "" for calls without a
// key. The ledger implements it.
type Spent func(from, to time.Time) (map[string]usd.Amount, error)

// Restore adds what was paid before since, the time from which on this budget counts. It
// may be called late, if the ledger was not readable at first: calls count meanwhile. If
// it returns an error, it has added nothing.
func (b *Budget) Restore(since time.Time, spent Spent) error {
	past := map[accountID]usd.Amount{}
	for _, p := range periods {
		from, _ := p.windowAt(since)
		sums, err := spent(from, since)
		if err != nil {
			return fmt.Errorf("read from the ledger what was spent since %s: %w", from.Format(time.RFC3339), err)
		}
		for key, sum := range sums {
			past[accountID{allKeys, p}] += sum
			if key != allKeys {
				past[accountID{key, p}] += sum
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, sum := range past {
		if len(b.accounts[id]) == 0 {
			b.windowOf(id, since)
		}
		from, _ := id.period.windowAt(since)
		i := slices.IndexFunc(b.accounts[id], func(w windowAccount) bool { return w.from.Equal(from) })
		if i < 0 { // the window is over
			continue
		}
		a := b.accounts[id][i]
		a.spent += sum
		// The operator was warned before the restart.
		if limit := b.limit(id); limit != nil && isNear(a.spent, *limit) {
			a.warned = true
		}
	}
	return nil
}

// SetConfig replaces the limits, from the next call on. What was spent still counts. A
// limit that is less than warnPercent spent now may be warned of again.
func (b *Budget) SetConfig(config Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config = config
	for id, list := range b.accounts {
		for _, a := range list {
			if limit := b.limit(id); limit == nil || !isNear(a.spent, *limit) {
				a.warned = false
			}
		}
	}
}

// LimitStatus is the state of a limit.
type LimitStatus struct {
	Key      string // "" = all calls together
	Period   Period
	Limit    usd.Amount
	Spent    usd.Amount
	Reserved usd.Amount // for calls in flight
	Ends     time.Time  // end of the window
}

// Statuses returns the state of each limit, those of all calls first.
func (b *Budget) Statuses(now time.Time) []LimitStatus {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []LimitStatus
	for _, key := range append([]string{allKeys}, slices.Sorted(maps.Keys(b.config.PerKey))...) {
		for _, p := range periods {
			id := accountID{key, p}
			if limit := b.limit(id); limit != nil {
				a := b.windowOf(id, now)
				list = append(list, LimitStatus{Key: key, Period: p, Limit: *limit, Spent: a.spent, Reserved: a.reserved, Ends: a.to})
			}
		}
	}
	return list
}
