// Package budget keeps what is paid within limits for each day and month, in all
// and for each key. The router asks it before a call that costs money, and tells
// it afterwards what the call cost; the daemon fills in at the start what the
// ledger has already booked.
//
// Days and months are UTC's, as the ledger's days and OpenRouter's own limits
// are: no day has 23 or 25 hours, and a server that changes its time zone neither
// loses a day's spending nor counts it twice.
package budget

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Limits are the most that may be paid in a window. nil = no limit; 0 = nothing.
type Limits struct {
	Daily   *usd.Amount `yaml:"daily"`
	Monthly *usd.Amount `yaml:"monthly"`
}

// Config is what the operator allows.
type Config struct {
	Limits `yaml:",inline"`
	PerKey map[string]Limits `yaml:"per_key"` // by the key's name; a key that is not here has the limits of all alone
}

// A Period is how long a limit's window is.
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

// windowAt returns the window that a moment is in.
func (p Period) windowAt(now time.Time) (from, to time.Time) {
	year, month, day := now.UTC().Date()
	if p == Monthly {
		from = time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
		return from, from.AddDate(0, 1, 0)
	}
	from = time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	return from, from.AddDate(0, 0, 1)
}

func (l Limits) of(p Period) *usd.Amount {
	if p == Monthly {
		return l.Monthly
	}
	return l.Daily
}

// allKeys is the account of all keys together. No key is called so.
const allKeys = ""

// warnAt is the share of a limit, in percent, at which the operator is warned.
const warnAt = 80

// account is what one key, or everybody, has spent in a window, and what is set
// aside of it for calls that are under way. A call settles with the account of the
// window that it began in, even when that is over.
type account struct {
	spent, reserved usd.Amount
	warned          bool
}

// windowAccount is a span of time and its account. The last windows are kept, so that a
// clock that jumps ahead and back finds the account that it left.
type windowAccount struct {
	from, to time.Time
	*account
}

type accountID struct {
	key    string
	period Period
}

// Budget is the accounts. It never waits for anything, and any number of calls
// may use it at once. A nil Budget allows everything.
type Budget struct {
	warn func(Warning)

	mu       sync.Mutex
	config   Config
	accounts map[accountID][]windowAccount // the one that was used last is the last
}

// keptWindows is how many accounts of a key and a period are kept.
const keptWindows = 3

// New makes a budget of which nothing is spent. warn is told once a window when
// most of a limit is gone; it may be nil.
func New(config Config, warn func(Warning)) *Budget {
	return &Budget{warn: warn, config: config, accounts: map[accountID][]windowAccount{}}
}

// at returns the window that now is in, and makes it the last one of its list. The
// caller holds the mutex.
func (b *Budget) at(id accountID, now time.Time) windowAccount {
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
		// A clock that is set back to before this budget began does not empty it.
		first := slices.MinFunc(list, func(a, b windowAccount) int { return a.from.Compare(b.from) })
		if from.Before(first.from) {
			w.account = first.account
		}
	}
	list = append(list, w)
	b.accounts[id] = list[max(len(list)-keptWindows, 0):]
	return w
}

// limit returns what an account may spend; nil = all it wants.
func (b *Budget) limit(id accountID) *usd.Amount {
	if id.key == allKeys {
		return b.config.of(id.period)
	}
	return b.config.PerKey[id.key].of(id.period)
}

// ids are the accounts that a key's calls are booked on. Those without a limit
// are kept too: a reload may bring one.
func ids(key string) []accountID {
	var list []accountID
	for _, p := range periods {
		list = append(list, accountID{allKeys, p})
		if key != allKeys {
			list = append(list, accountID{key, p})
		}
	}
	return list
}

// Reservation is an amount that is set aside for a call. It has to be settled or
// released, once; more often does no harm.
type Reservation struct {
	budget   *Budget
	estimate usd.Amount
	ids      []accountID
	accounts []windowAccount
	settled  bool
}

// Limited says whether anything limits what a key's calls may cost.
func (b *Budget) Limited(key string) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range periods {
		if b.limit(accountID{allKeys, p}) != nil || b.limit(accountID{key, p}) != nil {
			return true
		}
	}
	return false
}

// Check says which limit a call would pass now, as Reserve does, and sets nothing
// aside; nil = none.
func (b *Budget) Check(now time.Time, key string, estimate usd.Amount) *Exceeded {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.exceeded(ids(key), now, max(estimate, 0))
}

// exceeded finds the limit that an estimate would pass. Of several the one counts
// that holds the call back for longest. The caller holds the mutex.
func (b *Budget) exceeded(ids []accountID, now time.Time, estimate usd.Amount) (exceeded *Exceeded) {
	for _, id := range ids {
		a, limit := b.at(id, now), b.limit(id)
		if limit == nil || a.spent+a.reserved+estimate <= *limit && a.spent+a.reserved < *limit {
			continue
		}
		if exceeded == nil || a.to.After(exceeded.Ends) {
			exceeded = &Exceeded{
				Key: id.key, Period: id.period, Limit: *limit, Spent: a.spent, Reserved: a.reserved, Estimate: estimate,
				Ends: a.to, RetryAfter: a.to.Sub(now),
				hasKey: len(ids) > len(periods),
			}
		}
	}
	return exceeded
}

// Reserve sets aside what a call that begins now is expected to cost at most, or
// says which limit it would pass. key is the name of its caller's, or "".
// Concurrent calls can't pass a limit together as long as none costs more than
// was set aside for it. An estimate of 0, where the price is not known, asks only
// whether anything is left.
func (b *Budget) Reserve(now time.Time, key string, estimate usd.Amount) (*Reservation, *Exceeded) {
	if b == nil {
		return nil, nil
	}
	estimate = max(estimate, 0)
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &Reservation{budget: b, estimate: estimate, ids: ids(key)}
	if exceeded := b.exceeded(r.ids, now, estimate); exceeded != nil {
		return nil, exceeded
	}
	for _, id := range r.ids {
		a := b.at(id, now)
		a.reserved += estimate
		r.accounts = append(r.accounts, a)
	}
	return r, nil
}

// Settle books what the call cost in place of what was set aside for it.
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
	}
	b.mu.Unlock()
	if b.warn != nil {
		for _, w := range warnings {
			b.warn(w)
		}
	}
}

// Cancel gives back what was set aside for a call that cost nothing.
func (r *Reservation) Cancel() { r.Settle(0) }

// dueWarnings returns the warning that an account deserves and has not had. A window
// that is over deserves none.
func (b *Budget) dueWarnings(id accountID, a windowAccount) []Warning {
	limit := b.limit(id)
	list := b.accounts[id]
	if limit == nil || a.warned || list[len(list)-1].account != a.account || !isNear(a.spent, *limit) {
		return nil
	}
	a.warned = true
	return []Warning{{Key: id.key, Period: id.period, Limit: *limit, Spent: a.spent, Ends: a.to}}
}

// isNear says that most of a limit is gone. Of nothing that is never so.
func isNear(spent, limit usd.Amount) bool { return limit > 0 && spent >= limit*warnAt/100 }

// Spent returns what is booked in a span of time, by key, "" for calls without
// one. The ledger can say.
type Spent func(from, to time.Time) (map[string]usd.Amount, error)

// Restore adds what was booked before since, the moment from which on this budget
// counts itself. It may come late, when the ledger could not say at first: calls
// are booked meanwhile. With an error nothing is added.
func (b *Budget) Restore(since time.Time, spent Spent) error {
	past := map[accountID]usd.Amount{}
	for _, p := range periods {
		from, _ := p.windowAt(since)
		sums, err := spent(from, since)
		if err != nil {
			return fmt.Errorf("read what is spent since %s from the ledger: %w", from.Format(time.RFC3339), err)
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
			b.at(id, since)
		}
		from, _ := id.period.windowAt(since)
		i := slices.IndexFunc(b.accounts[id], func(w windowAccount) bool { return w.from.Equal(from) })
		if i < 0 { // that window is over by now
			continue
		}
		a := b.accounts[id][i]
		a.spent += sum
		// Whoever was warned before the restart is not warned again.
		if limit := b.limit(id); limit != nil && isNear(a.spent, *limit) {
			a.warned = true
		}
	}
	return nil
}

// SetConfig takes other limits over, from the next call on. What is spent stays
// spent, and a limit that is further away may be warned of anew.
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

// LimitStatus is how an account with a limit stands.
type LimitStatus struct {
	Key      string // "" = all calls together
	Period   Period
	Limit    usd.Amount
	Spent    usd.Amount
	Reserved usd.Amount // for calls that are under way
	Ends     time.Time  // of the window
}

// Statuses returns how every limit stands, those of all calls first.
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
				a := b.at(id, now)
				list = append(list, LimitStatus{Key: key, Period: p, Limit: *limit, Spent: a.spent, Reserved: a.reserved, Ends: a.to})
			}
		}
	}
	return list
}
