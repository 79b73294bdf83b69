package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// Options are what a Leaser needs.
type Options struct {
	Budget *budget.Budget
	Ledger string // a name that no other ledger has; "" = calls are not recorded
	// Spent returns what calls have cost that came on the day of from or later, by client key,
	// without those that came to this process at the time since or later. nil without a ledger.
	Spent func(ctx context.Context, from, since time.Time) (map[string]usd.Amount, error)
	Log   zerolog.Logger
}

// Leaser takes credit from the fleet for its box, and gives it back. It is a fleet.Service.
type Leaser struct {
	o       Options
	wall    func() time.Time      // the box's clock, which names the windows
	changed chan struct{}         // receives when there are other limits
	version atomic.Uint64         // of the limits
	ready   chan struct{}         // closed when the leases of the first limits have been supplied
	known   atomic.Pointer[known] // nil = nothing

	// Of the goroutine in Serve.
	fleet     string // whose credit the leases have
	windows   map[string]*window
	pastAfter time.Time // when the ledger may be asked again
	connected time.Time
}

// New returns a Leaser of a box without limits.
func New(o Options) *Leaser {
	o.Budget.SetAlone(true) // until Serve is called
	return &Leaser{o: o, wall: time.Now, changed: make(chan struct{}, 1), ready: make(chan struct{}), windows: map[string]*window{}}
}

// SetLimits sets the fleet's limits, from the next call on, and their version: boxes with an
// earlier one obey it, too.
func (l *Leaser) SetLimits(version uint64, limits budget.Config) {
	l.version.Store(version)
	l.o.Budget.SetFleet(limits)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Ready is closed when the box has had its first credit, or its fleet has none for it.
func (l *Leaser) Ready() <-chan struct{} { return l.ready }

const (
	// needSubject is that of the messages with which a box asks the others for credit.
	needSubject = "llmsup.budget.need"
	// checkInterval is how often leases are supplied if nothing happens.
	checkInterval = time.Second
	// ahead is how long before a window begins its credit is taken.
	ahead = 5 * time.Minute
	// behind is how long after its end a window's leases are supplied: a call takes credit of the
	// day on which it came, also if it needs that after midnight.
	behind = time.Hour
	// hold is how long a box that has given back credit takes none for calls to come.
	hold = 2 * time.Second
	// reportInterval is how often a box enters what it has spent, if nothing else changes.
	reportInterval = 10 * time.Second
	// askInterval is the shortest time between two messages that ask other boxes for credit.
	askInterval = 200 * time.Millisecond
	// maxFailures is how often in a row the leases cannot be supplied until the bucket is
	// opened again.
	maxFailures = 5
	// maxTries is the number of attempts to change a record in one pass, if others change it, too.
	maxTries = 10
)

// Serve implements fleet.Service.
func (l *Leaser) Serve(ctx context.Context, c *fleet.Conn) error {
	kv, err := c.OpenBucket(ctx, bucketConfig())
	if err != nil {
		l.publish(err)
		return err
	}
	replaced, needs := &names{wake: make(chan struct{}, 1)}, make(chan need, 64)
	unsubscribe, err := subscribe(c, replaced, needs)
	if err != nil {
		return err
	}
	defer unsubscribe()
	l.noteConnection(c.Fleet())
	defer l.publish(errNoConnection)
	return l.run(ctx, newSession(c, kv), replaced, needs)
}

// run supplies the leases until ctx ends, or until that fails too often.
func (l *Leaser) run(ctx context.Context, s *session, replaced *names, needs <-chan need) error {
	failures := 0
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		err := l.supplyAll(ctx, s)
		l.publish(err)
		switch {
		case err == nil:
			failures = 0
		case failures >= maxFailures:
			return err
		default:
			failures++
		}
		for again := false; !again; {
			again = true
			select {
			case <-ctx.Done():
				return nil
			case <-replaced.wake:
				again = false
				for _, key := range replaced.take() {
					again = l.noteChange(key) || again
				}
			case n := <-needs:
				l.giveBack(n)
			case <-l.o.Budget.CreditWanted():
			case <-l.changed:
			case <-tick.C:
			}
		}
	}
}

var errNoConnection = errors.New("there is no connection to NATS")

// subscribe has the names of records that others replace, and what other boxes need, sent to the
// goroutine in Serve.
func subscribe(c *fleet.Conn, replaced *names, needs chan<- need) (unsubscribe func(), err error) {
	subject := "$KV." + bucketName + "." + c.Fleet() + "."
	records, err := c.NATS.Subscribe(subject+">", func(m *nats.Msg) { replaced.add(strings.TrimPrefix(m.Subject, subject)) })
	if err != nil {
		return nil, fmt.Errorf("subscribe to the fleet's budgets: %w", err)
	}
	stop, err := c.Receive(needSubject, purpose, func(body []byte) {
		var n need
		if json.Unmarshal(body, &n) != nil {
			return
		}
		select {
		case needs <- n:
		default: // the other box asks again
		}
	})
	if err != nil {
		return nil, err
	}
	return func() {
		_ = records.Unsubscribe() // the connection may be lost
		stop()
	}, nil
}

// noteChange notes that another box has, perhaps, replaced a record. It reports whether a call, or
// this box, waits for that.
func (l *Leaser) noteChange(key string) bool {
	w := l.windows[key]
	if w != nil {
		w.fresh = false
	}
	return w != nil && (w.lacks > 0 || w.incomplete)
}

// noteConnection notes that records may have been replaced while there was no connection. If the
// box is in another fleet now, its credit is gone.
func (l *Leaser) noteConnection(fleet string) {
	if l.fleet != fleet && l.fleet != "" {
		l.o.Budget.RenewLeases()
		clear(l.windows)
	}
	l.fleet, l.connected = fleet, time.Now()
	for _, w := range l.windows {
		w.fresh, w.older = false, 0
	}
}

// leases returns those of the present windows, of the next ones soon before they begin, and of
// the last ones for a while.
func (l *Leaser) leases() []budget.Lease {
	now := l.wall()
	list := l.o.Budget.Leases(now, now.Add(ahead), now.Add(-behind))
	for i := range list {
		lease := &list[i]
		key := windowKey(lease.LeaseID)
		w := l.windows[key]
		if w == nil || w.lease != lease.Unique {
			w = &window{lease: lease.Unique}
			l.windows[key] = w
		}
	}
	return list
}

// supplyAll supplies all leases.
func (l *Leaser) supplyAll(ctx context.Context, s *session) error {
	list := l.leases()
	for i := range list {
		if err := l.supply(ctx, s, &list[i]); err != nil {
			l.o.Log.Debug().Err(err).Msg("cannot take or return credit of the fleet's budget")
			return err
		}
	}
	if len(list) > 0 {
		l.markReady(list)
		l.forget()
	}
	return nil
}

func (l *Leaser) markReady(list []budget.Lease) {
	for i := range list {
		if l.windows[windowKey(list[i].LeaseID)].incomplete {
			return
		}
	}
	select {
	case <-l.ready:
	default:
		close(l.ready)
	}
}

// forget forgets windows that are long over.
func (l *Leaser) forget() {
	if len(l.windows) < 1000 {
		return
	}
	used := map[string]bool{}
	for _, lease := range l.leases() {
		used[windowKey(lease.LeaseID)] = true
	}
	for key := range l.windows {
		if !used[key] {
			delete(l.windows, key)
		}
	}
}
