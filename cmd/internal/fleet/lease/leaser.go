package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// Options are what a Leaser needs.
type Options struct {
	Budget *budget.Budget
	Ledger string // a name that no other ledger has; "" = calls are not recorded
	// Spent returns what the ledger has of the calls of a span of time, by client key. nil
	// without a ledger.
	Spent func(ctx context.Context, from, to time.Time) (map[string]usd.Amount, error)
	Log   zerolog.Logger
}

// Leaser takes credit from the fleet for its box, and gives it back. It is a fleet.Service.
type Leaser struct {
	o       Options
	wall    func() time.Time      // the box's clock, which names the windows
	changed chan struct{}         // receives when there are other limits
	version atomic.Uint64         // of the limits
	ready   chan struct{}         // closed when the leases of the first limits have been looked after
	known   atomic.Pointer[known] // nil = nothing

	// Of the goroutine in Serve.
	windows   map[string]*window
	pastAfter time.Time // when the ledger may be asked again
}

// New returns a Leaser of a box without limits.
func New(o Options) *Leaser {
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
	// checkInterval is how often leases are looked after if nothing happens.
	checkInterval = time.Second
	// ahead is how long before a window begins its credit is taken. Boxes do so at different
	// times.
	ahead = 5 * time.Minute
	// hold is how long a box that has given back credit takes none for calls to come.
	hold = 2 * time.Second
	// reportInterval is how often a box enters what it has spent, if nothing else changes.
	reportInterval = 10 * time.Second
	// maxFailures is how often in a row the leases cannot be looked after until the bucket is
	// opened again.
	maxFailures = 5
	// maxTries is how often a record is changed at once if others change it, too.
	maxTries = 10
)

// window is a limit's window, as this box knows it. A record that was seen is remembered when
// the connection is lost.
type window struct {
	lease    string // budget.Lease.Unique
	record   *Record
	revision uint64
	fresh    bool        // nothing is known to have changed since record was read
	past     *usd.Amount // what ended processes of the box have spent; nil = unknown

	lacks    usd.Amount // what other boxes should give back for a call that waits; 0 = none
	heldOn   time.Time  // when credit was given back for another box
	askedOn  time.Time  // when others were asked last
	reported time.Time  // when the record was last changed
	lost     bool       // the record has gone back: see read

	older      int       // how many reads in a row were older than record
	olderSince time.Time // when the first of them was
}

// session is what a Leaser uses of a connection.
type session struct {
	bucket  bucket
	box     string          // name of this box
	present func() []string // all boxes of the fleet, this one included
	ask     func(need)      // sends a message to the other boxes
}

func newSession(c *fleet.Conn, kv jetstream.KeyValue) *session {
	return &session{
		bucket: &store{c: c, kv: kv}, box: c.Box,
		present: func() []string {
			names := []string{c.Box}
			for _, b := range c.View().Boxes {
				names = append(names, b.Name)
			}
			return names
		},
		ask: func(n need) {
			if body, err := json.Marshal(n); err == nil {
				_ = c.NATS.Publish(needSubject, c.Seal(purpose, body)) // the next call asks again
			}
		},
	}
}

// need is what a box asks the others for.
type need struct {
	Window string     `json:"window"`
	Box    string     `json:"box"`
	Amount usd.Amount `json:"amount"`
}

// Serve implements fleet.Service.
func (l *Leaser) Serve(ctx context.Context, c *fleet.Conn) error {
	kv, err := openBucket(ctx, c)
	if err != nil {
		l.publish(err)
		return err
	}
	replaced, needs := &names{wake: make(chan struct{}, 1)}, make(chan need, 64)
	subject := "$KV." + bucketName + "."
	_, err = c.NATS.Subscribe(subject+">", func(m *nats.Msg) { replaced.add(strings.TrimPrefix(m.Subject, subject)) })
	if err == nil {
		_, err = c.NATS.Subscribe(needSubject, func(m *nats.Msg) {
			var n need
			if body, err := c.Open(purpose, m.Data); err == nil && json.Unmarshal(body, &n) == nil {
				select {
				case needs <- n:
				default: // the other box asks again
				}
			}
		})
	}
	if err != nil {
		return fmt.Errorf("subscribe to the fleet's budgets: %w", err)
	}
	l.noteConnection()
	s := newSession(c, kv)
	defer l.publish(errNoConnection)
	failures := 0
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		err := l.look(ctx, s)
		l.publish(err)
		switch {
		case err == nil:
			failures = 0
		case failures >= maxFailures:
			return err
		default:
			failures++
		}
		for looks := false; !looks; {
			looks = true
			select {
			case <-ctx.Done():
				return nil
			case <-replaced.wake:
				looks = false
				for _, key := range replaced.take() {
					looks = l.noteChange(key) || looks
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

// noteChange notes that another box has, perhaps, replaced a record. It reports whether a call
// waits for that.
func (l *Leaser) noteChange(key string) bool {
	w := l.windows[key]
	if w != nil {
		w.fresh = false
	}
	return w != nil && w.lacks > 0
}

// noteConnection notes that records may have been replaced while there was no connection.
func (l *Leaser) noteConnection() {
	for _, w := range l.windows {
		w.fresh, w.older = false, 0
	}
}

// names is a set of names that one goroutine adds to and another one takes.
type names struct {
	wake chan struct{} // receives when there are some
	mu   sync.Mutex
	set  map[string]bool
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil {
		n.set = map[string]bool{}
	}
	n.set[name] = true
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *names) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	set := n.set
	n.set = nil
	return slices.Collect(maps.Keys(set))
}

// giveBack lowers this box's credit for another box. look tells the bucket.
func (l *Leaser) giveBack(n need) {
	now := time.Now()
	for _, lease := range l.leases() {
		w := l.windows[windowKey(lease.LeaseID)]
		if w == nil || w.record == nil || w.record.Window != n.Window {
			continue
		}
		w.heldOn = now
		l.o.Budget.GiveBack(lease.LeaseID, keepFor(&lease, n.Amount))
	}
}

// leases returns those of the present windows, and of the next ones soon before they begin.
func (l *Leaser) leases() []budget.Lease {
	now := l.wall()
	list := l.o.Budget.Leases(now, now.Add(ahead))
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

// look looks after all leases.
func (l *Leaser) look(ctx context.Context, s *session) error {
	list := l.leases()
	for i := range list {
		if err := l.supply(ctx, s, &list[i]); err != nil {
			l.o.Log.Debug().Err(err).Msg("a budget of the fleet cannot be changed")
			return err
		}
	}
	if len(list) > 0 {
		l.markReady()
		l.forget()
	}
	return nil
}

func (l *Leaser) markReady() {
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

// supply takes or gives back credit for one lease. The record is changed before more is spent,
// and after less may be.
func (l *Leaser) supply(ctx context.Context, s *session, lease *budget.Lease) error {
	w := l.windows[windowKey(lease.LeaseID)]
	for try := range maxTries {
		if !w.fresh {
			if err := l.read(ctx, s, w, windowKey(lease.LeaseID)); err != nil {
				return err
			}
		}
		next, d := l.plan(ctx, s, w, lease)
		w.lacks = d.lacks
		if next == nil {
			l.o.Budget.Grant(lease.LeaseID, w.credit(s, lease, lease.Granted, d.share))
			l.askOthers(s, w)
			return nil
		}
		revision, err := s.bucket.write(ctx, next, w.revision)
		if err == nil {
			w.record, w.revision, w.reported = next, revision, time.Now()
			l.o.Budget.Grant(lease.LeaseID, w.credit(s, lease, d.granted, d.share))
			l.askOthers(s, w)
			return nil
		}
		w.fresh = false
		if !errors.Is(err, errConflict) {
			return err // the record may have been replaced, or will be: nothing more may be spent for that
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(try+1) * 5 * time.Millisecond)):
		}
	}
	return nil // at the next tick
}

// plan returns the record with this box's next part of it; nil = nothing changes.
func (l *Leaser) plan(ctx context.Context, s *session, w *window, lease *budget.Lease) (*Record, decision) {
	own := Holder{Box: s.box, Ledger: l.o.Ledger, Lease: lease.Unique, At: time.Now().UTC().Truncate(time.Second)}
	next := new(*w.record)
	limits := l.version.Load()
	if limits >= next.LimitVersion {
		next.Limit, next.LimitVersion = lease.Limit, limits
	}
	l.close(ctx, w, next, own, lease)
	now := time.Now()
	boxes := max(next.boxes(), len(s.present()))
	d := next.decide(demand{lease: *lease, boxes: boxes, idle: now.Sub(lease.Used), hold: w.lost || now.Sub(w.heldOn) < hold})
	if w.lost {
		d = decision{granted: max(lease.Granted, lease.Taken())}
	}
	own.Granted, own.Spent = d.granted, lease.Spent
	if d.lower {
		own.Granted = l.o.Budget.GiveBack(lease.LeaseID, d.keep)
		d.granted, lease.Granted = own.Granted, own.Granted
	}
	if !w.changes(next, own) {
		return nil, d
	}
	next.Version++
	next.set(own)
	return next, d
}

// changes reports whether a record with this box's part must replace the present one.
func (w *window) changes(next *Record, own Holder) bool {
	var held Holder
	if at := next.index(own.Lease); at >= 0 {
		held = next.Holders[at]
	}
	return held.Granted != own.Granted || held.Spent != own.Spent && time.Since(w.reported) > reportInterval ||
		next.Limit != w.record.Limit || next.LimitVersion != w.record.LimitVersion ||
		len(next.Holders) != len(w.record.Holders) || next.closed(own) != w.record.closed(own)
}

// close closes the leases of the box's ended processes, as soon as the ledger says what they
// have spent.
func (l *Leaser) close(ctx context.Context, w *window, next *Record, own Holder, lease *budget.Lease) {
	if w.past == nil && l.o.Spent != nil && time.Now().After(l.pastAfter) {
		past, err := l.past(ctx, lease)
		if err != nil {
			l.pastAfter = time.Now().Add(pastInterval)
			l.o.Log.Debug().Err(err).Msg("the credit of an earlier llmsup on this box cannot be given back yet")
			return
		}
		w.past = &past
	}
	if w.past != nil {
		next.closeEnded(own, *w.past)
	}
}

// credit is what this process may spend now, by the record.
func (w *window) credit(s *session, lease *budget.Lease, granted, share usd.Amount) budget.Credit {
	present := s.present()
	gone := func(box string) bool { return !slices.Contains(present, box) }
	return budget.Credit{Granted: granted, Low: share / 2, Elsewhere: w.record.elsewhere(lease.Unique, gone)}
}

// askOthers asks the other boxes for credit, at most once a second.
func (l *Leaser) askOthers(s *session, w *window) {
	now := time.Now()
	if w.lacks == 0 || now.Sub(w.askedOn) < time.Second {
		return
	}
	w.askedOn = now
	s.ask(need{Window: w.record.Window, Box: s.box, Amount: w.lacks})
}
