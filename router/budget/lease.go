package budget

import (
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// LeaseID names the lease of this process for one of the fleet's limits, in a window.
type LeaseID struct {
	Key    string // "" = all calls together
	Period Period
	From   time.Time // beginning of the window; UTC
}

// Credit is what the fleet lets this process spend in a window.
type Credit struct {
	Granted   usd.Amount // since the beginning of the lease; what is spent counts
	Low       usd.Amount // more is asked for when less than this is neither spent nor reserved
	Elsewhere usd.Amount // what this process cannot get of the limit: others have spent it, or are gone with it
}

// Lease is a lease as it was when Leases was called.
type Lease struct {
	LeaseID
	Credit

	Unique   string     // name of the lease: no other one, of no other process, has it
	Since    time.Time  // calls that began before are not in Spent
	To       time.Time  // end of the window
	Limit    usd.Amount // of the fleet
	Limited  time.Time  // since when this process knows a limit
	Spent    usd.Amount
	Reserved usd.Amount // for calls in flight
	Asked    usd.Amount // the highest estimate that did not fit, if that was a moment ago and none of that size has since; 0 = none
	Largest  usd.Amount // the highest estimate so far, in the windows before too
	Used     time.Time  // when a call last asked for credit; zero = never

	askedAt time.Time
}

// Taken is what is spent, and what is reserved for calls in flight.
func (l *Lease) Taken() usd.Amount { return l.Spent + l.Reserved }

// fleetLimits are the limits that a fleet's boxes share, and this process's leases. The
// Budget's mutex guards it. A lease counts all calls from its beginning on, also while there is
// no limit: one may be set later.
type fleetLimits struct {
	config  Config
	limited map[accountID]time.Time // since when there is a limit
	since   time.Time               // from which on leases count; zero = not yet
	leases  map[accountID]map[time.Time]*Lease
	alone   bool          // no credit can be asked for now
	wanted  chan struct{} // receives when a call needs more credit, or will soon
}

// askFor is how long the need of a call that did not fit is remembered: its client may try again
// meanwhile.
const askFor = 2 * time.Second

// maxLeases is how many windows of a limit have leases. One that is forgotten and made again
// has another name, and nothing of its credit.
const maxLeases = 20

// CountLeases makes the budget count what this process spends in the fleet: from since on,
// which is before the first call.
func (b *Budget) CountLeases(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fleet.since.IsZero() {
		b.fleet.since, b.fleet.leases = since.UTC(), map[accountID]map[time.Time]*Lease{}
	}
}

// RenewLeases takes all credit away, when the fleet is another one. The leases get other names, and count
// what they did: the ledger may have some of it only later.
func (b *Budget) RenewLeases() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, windows := range b.fleet.leases {
		for _, l := range windows {
			l.Unique, l.Credit, l.Asked = rand.Text(), Credit{}, 0
		}
	}
}

// SetFleet replaces the fleet's limits, from the next call on. Calls need credit for them, see
// Grant. CountLeases comes first.
func (b *Budget) SetFleet(config Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limited := map[accountID]time.Time{}
	for _, key := range append(slices.Collect(maps.Keys(config.PerKey)), allKeys) {
		for _, p := range periods {
			id := accountID{key, p}
			if config.limit(id) == nil {
				continue
			}
			if limited[id] = time.Now(); !b.fleet.limited[id].IsZero() {
				limited[id] = b.fleet.limited[id]
			}
		}
	}
	b.fleet.config, b.fleet.limited = config, limited
}

// SetAlone says whether the fleet cannot be asked for credit now.
func (b *Budget) SetAlone(alone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fleet.alone = alone
}

// CreditWanted receives when a call needs more credit of the fleet, or will soon.
func (b *Budget) CreditWanted() <-chan struct{} { return b.fleet.wanted }

// Leases returns the leases of all limits of the fleet, in the windows that contain one of the
// times. Those of all calls come first.
func (b *Budget) Leases(times ...time.Time) (list []Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range append([]string{allKeys}, slices.Sorted(maps.Keys(b.fleet.config.PerKey))...) {
		for _, p := range periods {
			id := accountID{key, p}
			limit := b.fleet.config.limit(id)
			if limit == nil {
				continue
			}
			seen := map[*Lease]bool{}
			for _, at := range times {
				if l := b.leaseOf(id, at); !seen[l] {
					if seen[l], l.Limit, l.Limited = true, *limit, b.fleet.limited[id]; time.Since(l.askedAt) > askFor {
						l.Asked = 0
					}
					before, _ := p.windowAt(l.From.Add(-1)) // its calls may be followed by ones as large
					if last := b.fleet.leases[id][before]; last != nil {
						l.Largest = max(l.Largest, last.Largest)
					}
					list = append(list, *l)
				}
			}
		}
	}
	return list
}

// Grant raises the credit of a lease. Granted may not be more than the fleet has recorded for
// this process. A lower one than before changes nothing: GiveBack lowers it.
func (b *Budget) Grant(id LeaseID, c Credit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.fleet.leases[accountID{id.Key, id.Period}][id.From]; l != nil {
		c.Granted = max(c.Granted, l.Granted)
		l.Credit = c
	}
}

// GiveBack lowers the credit of a lease at once, so that at most keep is neither spent nor
// reserved. It returns what is granted then.
func (b *Budget) GiveBack(id LeaseID, keep usd.Amount) (granted usd.Amount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.fleet.leases[accountID{id.Key, id.Period}][id.From]
	if l == nil {
		return 0
	}
	l.Granted = min(l.Granted, l.Taken()+max(keep, 0))
	return l.Granted
}

// leaseOf returns the lease for the window that contains a time. The caller holds the mutex.
func (b *Budget) leaseOf(id accountID, at time.Time) *Lease {
	from, to := id.period.windowAt(at)
	windows := b.fleet.leases[id]
	if l := windows[from]; l != nil {
		return l
	}
	if windows == nil {
		windows = map[time.Time]*Lease{}
		b.fleet.leases[id] = windows
	}
	if len(windows) >= maxLeases {
		delete(windows, slices.MinFunc(slices.Collect(maps.Keys(windows)), time.Time.Compare))
		b.fleet.since = time.Now().UTC()
	}
	l := &Lease{LeaseID: LeaseID{id.key, id.period, from}, Unique: rand.Text(), Since: b.fleet.since, To: to}
	windows[from] = l
	return l
}

// exceededOfFleet returns the fleet's limit for which a call needs more credit than there is: of
// several, one that the fleet cannot give, and the one whose window ends last. It has the credit
// asked for. The caller holds the mutex.
func (b *Budget) exceededOfFleet(ids []accountID, began time.Time, estimate usd.Amount) (exceeded *Exceeded) {
	for _, id := range ids {
		limit := b.fleet.config.limit(id)
		if limit == nil || b.fleet.since.IsZero() {
			continue
		}
		l := b.leaseOf(id, began)
		l.Used, l.Largest = time.Now(), max(l.Largest, estimate)
		if l.Taken()+estimate <= l.Granted && l.Taken() < l.Granted {
			continue
		}
		next := &Exceeded{
			Key: id.key, Period: id.period, Limit: *limit, Spent: min(l.Elsewhere+l.Spent, *limit), Reserved: l.Reserved, Ends: l.To, Estimate: estimate, Fleet: true, Alone: b.fleet.alone,
		}
		if next.Temporary() {
			l.ask(max(estimate, 1))
			b.wantCredit()
		}
		if exceeded == nil || exceeded.Temporary() && !next.Temporary() || exceeded.Temporary() == next.Temporary() && next.Ends.After(exceeded.Ends) {
			exceeded = next
		}
	}
	return exceeded
}

// ask notes that a call needs more credit than there is.
func (l *Lease) ask(estimate usd.Amount) {
	if estimate > l.Asked || time.Since(l.askedAt) > askFor {
		l.Asked, l.askedAt = estimate, time.Now()
	}
}

// take reserves an estimate in all leases. The caller holds the mutex.
func (b *Budget) take(ids []accountID, began time.Time, estimate usd.Amount) (leases []*Lease) {
	if b.fleet.since.IsZero() {
		return nil
	}
	for _, id := range ids {
		l := b.leaseOf(id, began)
		if l.Reserved += estimate; estimate >= l.Asked {
			l.Asked = 0 // its client has tried again
		}
		if b.fleet.config.limit(id) != nil && l.Granted-l.Taken() < l.Low {
			b.wantCredit()
		}
		leases = append(leases, l)
	}
	return leases
}

// settle replaces a reservation by the actual cost. The caller holds the mutex.
func (b *Budget) settle(leases []*Lease, estimate, actual usd.Amount) {
	for _, l := range leases {
		l.Reserved -= estimate
		l.Spent += actual
		if l.Taken() > l.Granted && b.fleet.config.limit(accountID{l.Key, l.Period}) != nil {
			b.wantCredit() // the call has cost more than its estimate: the other boxes must see it
		}
	}
}

func (b *Budget) wantCredit() {
	select {
	case b.fleet.wanted <- struct{}{}:
	default:
	}
}
