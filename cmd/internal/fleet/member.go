package fleet

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Options are what a Member needs.
type Options struct {
	Settings Settings                 // that Validate has accepted
	State    func() Box               // what this box announces, without its name, instance, number and address
	Changes  func() []<-chan struct{} // they are closed when a state changes that others must see at once
	Services []Service                // what else the box does on its connection
	Log      zerolog.Logger
}

// Member is this box in a fleet.
type Member struct {
	o        Options
	instance string
	seq      atomic.Uint64    // of the last announcement
	changed  chan struct{}    // receives when the box has to be announced
	outdated chan struct{}    // receives when the view lacks an announcement
	clock    func() time.Time // for what is received; its readings are compared with each other only
	view     atomic.Pointer[View]
	secret   atomic.Pointer[secret] // of the fleet; nil = it has not been read yet
	messages messages

	announced time.Time // when the box has last been announced, having its name; the session's
	revision  uint64    // of the last announcement that the bucket is known to have stored; the session's

	mu           sync.Mutex // guards the fields below and replacements of the view
	peers        peers
	link         link
	ignored      uint64
	foreign      map[string]time.Time // when boxes with another key were last heard of, by name; at most maxForeign
	warned       time.Time            // of ignored announcements
	expired      time.Time            // up to which time silent boxes have been found
	checked      time.Time            // when silent boxes were last searched for, or a view was made
	lastReceived time.Time            // when anything has last arrived from NATS
	viewed       time.Time            // when the view was last replaced
	replaced     chan struct{}
}

// link is whether the box is in the fleet.
type link struct {
	joined  bool
	problem string
}

// New returns a Member. Run makes it join.
func New(o Options) *Member {
	name := o.Settings.BoxName()
	m := &Member{
		o: o, instance: rand.Text(), changed: make(chan struct{}, 1), outdated: make(chan struct{}, 1), clock: time.Now,
		peers: peers{self: name, byName: map[string]Peer{}}, foreign: map[string]time.Time{}, link: link{problem: "it connects to " + o.Settings.servers()},
	}
	if key, err := o.Settings.readKey(); err == nil { // else Run says what is wrong
		m.secret.Store(&key)
	}
	m.publish()
	return m
}

func (s Settings) servers() string { return strings.Join(s.NATS, ", ") }

// View returns the fleet as it is known now. It never waits.
func (m *Member) View() *View { return m.view.Load() }

// HopCode returns what authenticates the calls of this box at another one; "" = the fleet's key
// has not been read yet.
func (m *Member) HopCode(to *Peer) string {
	if key := m.secret.Load(); key != nil {
		return key.hopCode(m.peers.self, &to.Box)
	}
	return ""
}

// SameKey reports whether two Members are known to have the same fleet's key.
func (m *Member) SameKey(other *Member) bool {
	a, b := m.secret.Load(), other.secret.Load()
	return a != nil && b != nil && hmac.Equal(*a, *b)
}

// VerifyHop reports whether a code is that of a box for calls at this process.
func (m *Member) VerifyHop(from, code string) bool {
	key := m.secret.Load()
	return key != nil && hmac.Equal([]byte(code), []byte(key.hopCode(from, &Box{Name: m.peers.self, Instance: m.instance})))
}

const (
	// expireInterval is how often the Member searches for silent boxes.
	expireInterval = 100 * time.Millisecond
	// viewInterval is the shortest time between two views that announcements change: a view has
	// all boxes, and in a large fleet one of them announces itself all the time.
	viewInterval = 20 * time.Millisecond
	// rejoinInterval is the shortest time between the beginnings of two attempts to join; random
	// time is added, so that not all boxes come back at once.
	rejoinInterval = time.Second
)

// hasLeft is the problem of a box whose membership has ended.
const hasLeft = "it has left the fleet"

// Run keeps the box in the fleet until ctx ends. Then the box leaves, which takes at most a
// second.
func (m *Member) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { m.watchChanges(ctx) })
	tasks.Go(func() { m.expire(ctx) })
	for {
		began := time.Now()
		err := m.session(ctx)
		if ctx.Err() != nil {
			m.setLink(link{problem: hasLeft})
			return
		}
		m.setLink(link{problem: err.Error()})
		select {
		case <-ctx.Done():
		case <-time.After(rejoinPause(time.Since(began))):
		}
	}
}

// rejoinPause returns how long a box waits until it joins again after a session that has lasted for
// some time. A box that was in the fleet has to announce itself again before the others take it for
// silent: its last announcement may be AnnounceInterval old when the connection is lost.
func rejoinPause(lasted time.Duration) time.Duration {
	return max(0, rejoinInterval-lasted) + mathrand.N(rejoinInterval/2)
}

// watchChanges announces each change at once.
func (m *Member) watchChanges(ctx context.Context) {
	for {
		cases := []reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())}}
		for _, change := range m.o.Changes() {
			cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(change)})
		}
		select {
		case m.changed <- struct{}{}: // also a change before the channels were read
		default:
		}
		if chosen, _, _ := reflect.Select(cases); chosen == 0 {
			return
		}
	}
}

// expire keeps the view up to date: it removes silent boxes, and adds what is announced while a
// view is new.
func (m *Member) expire(ctx context.Context) {
	tick := time.NewTicker(expireInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.outdated:
			select {
			case <-ctx.Done():
				return
			case <-time.After(viewInterval):
			}
			m.mu.Lock()
			m.publish()
			m.mu.Unlock()
			continue
		case <-tick.C:
		}
		m.mu.Lock()
		now := m.clock()
		m.discountPause(now)
		silent := m.peers.expire(m.expired, now)
		for _, name := range silent {
			if m.link.joined { // else no box is heard of
				m.o.Log.Warn().Str("box", name).Msgf("the box has been silent for %s, and is no longer in the fleet", silence)
			}
		}
		if m.expired = now; m.forgetForeign(now) || len(silent) > 0 {
			m.publish()
		}
		m.mu.Unlock()
	}
}

// receive takes over an announcement of another box.
func (m *Member) receive(s sealer, name string, value []byte) {
	b, err := s.open(value)
	if err == nil && b.Name != name {
		err = fmt.Errorf("it is for the box %s", b.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	m.lastReceived = now
	if err != nil {
		m.ignored++
		text := "ignored an invalid announcement of a box of this fleet; it may run another version of llmsup"
		if errors.Is(err, errForeign) {
			m.noteForeign(name, now)
			text = "ignored an announcement that is not authenticated with this fleet's key; all boxes of a fleet need the same key in key_file"
		}
		if m.warned.IsZero() || now.Sub(m.warned) > time.Minute {
			m.warned = now
			m.o.Log.Warn().Str("box", fmt.Sprintf("%.100q", name)).Err(err).Uint64("ignored", m.ignored).Msg(text)
		}
		return
	}
	if !m.peers.observe(b, m.instance, now) {
		return
	}
	if now.Sub(m.viewed) >= viewInterval {
		m.publish()
		return
	}
	select {
	case m.outdated <- struct{}{}:
	default:
	}
}

// noteForeign notes that a box with another key is heard of. The caller holds mu.
func (m *Member) noteForeign(name string, now time.Time) {
	_, known := m.foreign[name]
	if !known && (len(m.foreign) >= maxForeign || !validName.MatchString(name)) { // it may be of an outsider
		return
	}
	if m.foreign[name] = now; !known {
		m.publish()
	}
}

// forgetForeign forgets the boxes with another key that are silent, and reports whether there were
// any. The caller holds mu.
func (m *Member) forgetForeign(now time.Time) bool {
	before := len(m.foreign)
	maps.DeleteFunc(m.foreign, func(_ string, seen time.Time) bool { return now.Sub(seen) >= silence })
	return len(m.foreign) < before
}

// setLink sets whether the box is in the fleet, and logs a change.
func (m *Member) setLink(next link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.link
	if before == next {
		return
	}
	m.link = next
	m.publish()
	switch {
	case next.joined && next.problem == "":
		m.o.Log.Info().Str("box", m.peers.self).Msg("the box is in the fleet")
	case next.joined:
		m.o.Log.Warn().Str("box", m.peers.self).Msg("the box is in the fleet, but " + next.problem)
	case next.problem == hasLeft:
		m.o.Log.Info().Str("box", m.peers.self).Msg("the box has left the fleet")
	default:
		m.o.Log.Warn().Str("box", m.peers.self).Msg("the box is not in the fleet, and continues alone: " + next.problem)
	}
}

// publish replaces the view. The caller holds mu.
func (m *Member) publish() {
	old := m.replaced
	m.replaced, m.viewed = make(chan struct{}), m.clock()
	m.discountPause(m.viewed)
	present, absent := m.peers.known(m.viewed)
	m.view.Store(&View{
		Name: m.peers.self, Joined: m.link.joined, Problem: m.link.problem, Boxes: present, Absent: absent, Ignored: m.ignored, Foreign: slices.Sorted(maps.Keys(m.foreign)), Changed: m.replaced,
	})
	if old != nil {
		close(old)
	}
}

// namesake returns the other box with the name of this one, if it announces itself.
func (m *Member) namesake() *Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if alive := m.peers.aliveNamesake(m.clock()); alive != nil {
		return new(*alive)
	}
	return nil
}
