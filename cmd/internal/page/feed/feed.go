package feed

import (
	"context"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

const (
	// minInterval is the shortest time between two changes.
	minInterval = 500 * time.Millisecond
	// maxInterval is the time after which counters are read again, whatever has changed.
	maxInterval = time.Second
)

// Viewer is what a page may see. Pages of equal Viewers get equal sections.
type Viewer struct {
	Key      string // a viewer that is no operator sees the calls and the spending of this key only
	Operator bool   // it sees all calls, and what servers printed
}

// Daemon is what the feed reads of the daemon.
type Daemon interface {
	Status() control.Status
	Models() []control.Model
	// Changes returns channels that are closed when the state of a server changes.
	Changes() []<-chan struct{}
}

// Traffic is what the feed reads of the calls. None of its methods blocks.
type Traffic interface {
	// InFlight returns the calls in flight, the oldest first.
	InFlight() []Call
	// Ended returns how many calls have ended so far.
	Ended() int64
	// LastEnded returns the last calls that have ended, the last first.
	LastEnded() []EndedCall
	// Routes returns the models that a key may use.
	Routes(key string) []Route
}

// Spending adds up the calls of the ledger.
type Spending interface {
	Usage(ctx context.Context, from, to time.Time, by string) (control.Usage, error)
}

// Fleet is what the feed reads of the other boxes.
type Fleet interface {
	// Boxes returns the boxes that this one knows, without asking them.
	Boxes() control.Boxes
	// FleetUsage asks all boxes for their Usage, and adds it up.
	FleetUsage(ctx context.Context, from, to time.Time, by string) (control.Usage, error)
}

// Options are what a Feed reads, and what it is named.
type Options struct {
	Daemon   Daemon
	Traffic  Traffic
	Spending Spending
	Fleet    Fleet
	Box      Box // without its epoch
}

// Feed has the present sections of each Viewer with an open page.
type Feed struct {
	o       Options
	history *history
	since   *upstreamTimes
	rates   *Rates
	today   *today
	fleet   *today        // of all boxes
	joined  chan struct{} // receives when a group needs its sections

	mu      sync.Mutex
	groups  map[Viewer]*group
	created int           // groups so far
	changed chan struct{} // closed when sections have changed
}

// group has the sections of one Viewer.
type group struct {
	epoch    string // of its versions
	readers  int
	fresh    bool // its sections are of a time at which it had readers
	version  uint64
	sections map[string]section
	order    []string  // of the sections' names
	routed   time.Time // when the routes were computed
}

type section struct {
	json    []byte
	version uint64 // of the group, when json last changed
}

// New returns a feed. Run computes its sections.
func New(o Options) *Feed {
	o.Box.Epoch = rand.Text()
	return &Feed{
		o: o, history: &history{}, since: &upstreamTimes{started: o.Box.Started}, rates: &Rates{}, today: &today{add: o.Spending.Usage, interval: todayInterval, maxAge: todayMaxAge},
		fleet:  &today{add: o.Fleet.FleetUsage, interval: fleetInterval, maxAge: fleetInterval},
		joined: make(chan struct{}, 1), groups: map[Viewer]*group{}, changed: make(chan struct{}),
	}
}

// Run computes the sections until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { f.sample(ctx) })
	tasks.Go(func() { f.today.run(ctx) })
	tasks.Go(func() { f.fleet.run(ctx) })
	for ctx.Err() == nil {
		if !f.hasReaders() {
			select {
			case <-ctx.Done():
			case <-f.joined:
			}
			continue
		}
		changes := f.o.Daemon.Changes() // before the sections, so that none is missed
		f.compute()
		if !f.pause(ctx, minInterval, nil) {
			f.pause(ctx, maxInterval-minInterval, changes)
		}
	}
}

// sample records the history of the GPUs, also while no page is open.
func (f *Feed) sample(ctx context.Context) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		status := f.o.Daemon.Status()
		f.history.add(time.Now(), status.GPUs)
		f.since.observe(time.Now(), status.Upstreams)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pause waits for some time, or until one of the changes. It returns true at once when a
// page has joined.
func (f *Feed) pause(ctx context.Context, d time.Duration, changes []<-chan struct{}) (joined bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	cases := []reflect.SelectCase{receive(f.joined), receive(ctx.Done()), {Dir: reflect.SelectRecv, Chan: reflect.ValueOf(timer.C)}}
	for _, c := range changes {
		cases = append(cases, receive(c))
	}
	chosen, _, _ := reflect.Select(cases)
	return chosen == 0
}

func receive(c <-chan struct{}) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

func (f *Feed) hasReaders() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.groups {
		if g.readers > 0 {
			return true
		}
	}
	return false
}

// compute computes the sections of all Viewers with an open page.
func (f *Feed) compute() {
	now := time.Now()
	in := f.read(now)
	f.mu.Lock()
	viewers := map[Viewer]bool{} // whether their routes are due
	for v, g := range f.groups {
		if g.readers > 0 {
			viewers[v] = now.Sub(g.routed) >= routesInterval
		}
		if g.readers > 0 && v.Operator && in.boxes.Fleet != nil {
			f.fleet.ended(0, now)
		}
	}
	f.mu.Unlock()
	for v, withRoutes := range viewers {
		encoded := f.sections(v, in, withRoutes)
		f.mu.Lock()
		f.publish(f.groups[v], encoded, now, withRoutes)
		f.mu.Unlock()
	}
}

// publish replaces the sections that have changed. The caller holds mu.
func (f *Feed) publish(g *group, encoded []named, now time.Time, withRoutes bool) {
	if g == nil { // its last page was closed meanwhile
		return
	}
	if withRoutes {
		g.routed = now
	}
	next, news := g.version+1, !g.fresh
	for _, n := range encoded {
		old, known := g.sections[n.name]
		if known && string(old.json) == string(n.json) {
			continue
		}
		if !known {
			g.order = append(g.order, n.name)
		}
		g.sections[n.name] = section{n.json, next}
		g.version, news = next, true
	}
	g.fresh = g.readers > 0
	if news {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// maxIdleGroups limits the groups that are kept for pages that come back.
const maxIdleGroups = 100

// Reader reads the sections for one page. It is used by one goroutine.
type Reader struct {
	feed   *Feed
	viewer Viewer
	group  *group
	seen   uint64 // version of the sections that the page has; 0 = none
}

// Subscribe returns a reader. lastID is the ID of the last Update that the page has; "" =
// none. Close must be called.
func (f *Feed) Subscribe(v Viewer, lastID string) *Reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.groups[v]
	if g == nil {
		f.forgetIdle()
		f.created++
		g = &group{epoch: fmt.Sprintf("%s.%d", f.o.Box.Epoch, f.created), sections: map[string]section{}}
		f.groups[v] = g
	}
	g.readers++
	if !g.fresh {
		select {
		case f.joined <- struct{}{}:
		default:
		}
	}
	r := &Reader{feed: f, viewer: v, group: g}
	if epoch, version, ok := strings.Cut(lastID, "-"); ok && epoch == g.epoch {
		if n, err := strconv.ParseUint(version, 10, 64); err == nil && n <= g.version {
			r.seen = n
		}
	}
	return r
}

// Resumed returns the ID of the Update that the reader continues; "" = it begins with all
// sections. Call it before Next.
func (r *Reader) Resumed() string {
	if r.seen == 0 {
		return ""
	}
	return r.group.id(r.seen)
}

// id returns the ID of an Update.
func (g *group) id(version uint64) string { return g.epoch + "-" + strconv.FormatUint(version, 10) }

// forgetIdle removes groups without readers if there are many. The caller holds mu.
func (f *Feed) forgetIdle() {
	if len(f.groups) < maxIdleGroups {
		return
	}
	for v, g := range f.groups {
		if g.readers == 0 {
			delete(f.groups, v)
		}
	}
}

// Close ends the reader.
func (r *Reader) Close() {
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	if r.group.readers--; r.group.readers == 0 {
		r.group.fresh = false
	}
}

// Update is what has changed since the Update before.
type Update struct {
	ID       string // for Subscribe
	Full     bool   // it has all sections
	Sections []byte // members of a JSON object: "name":value,...
}

// Next waits until a section has changed since the last call. It returns an error if ctx
// ends.
func (r *Reader) Next(ctx context.Context) (Update, error) {
	for {
		r.feed.mu.Lock()
		u, news := r.collect()
		changed := r.feed.changed
		r.feed.mu.Unlock()
		if news {
			return u, nil
		}
		select {
		case <-ctx.Done():
			return Update{}, ctx.Err()
		case <-changed:
		}
	}
}

// collect returns the sections that the page does not have. The caller holds the feed's mu.
func (r *Reader) collect() (u Update, news bool) {
	g := r.group
	if !g.fresh || g.version <= r.seen {
		return Update{}, false
	}
	u = Update{ID: g.id(g.version), Full: r.seen == 0}
	for _, name := range g.order {
		s := g.sections[name]
		if s.version <= r.seen {
			continue
		}
		if len(u.Sections) > 0 {
			u.Sections = append(u.Sections, ',')
		}
		u.Sections = append(strconv.AppendQuote(u.Sections, name), ':')
		u.Sections = append(u.Sections, s.json...)
	}
	r.seen = g.version
	return u, true
}

// named is a section that was computed.
type named struct {
	name string
	json []byte
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
