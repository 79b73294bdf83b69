package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// AnnounceInterval is how often a box announces itself if nothing changes.
	AnnounceInterval = time.Second
	// storeTimeout is how long the bucket may store nothing until the view reports it: longer than
	// an election of its leader.
	storeTimeout = 15 * time.Second
	// leaveTimeout limits the last announcement.
	leaveTimeout = 500 * time.Millisecond
)

// session is a connection to NATS, with what the box does on it. One goroutine uses it,
// except that claim may run beside it.
type session struct {
	m      *Member
	nc     *nats.Conn
	js     jetstream.JetStream
	sealer sealer

	joined   bool
	pending  jetstream.PubAckFuture // of the last announcement; nil = none
	stored   time.Time              // when the last one was stored, or the session began
	owned    time.Time              // when the bucket has last confirmed that the box has its name
	claims   chan claimed           // receives the result of the claim that runs
	claiming bool
}

// session joins the fleet, and announces the box until the connection is lost or ctx ends.
func (m *Member) session(ctx context.Context) error {
	key, err := m.o.Settings.readKey()
	if err != nil {
		return err
	}
	m.secret.Store(&key)
	nc, broken, err := connect(ctx, m.o.Settings)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(requestTimeout))
	if err != nil {
		return err
	}
	s := &session{m: m, nc: nc, js: js, sealer: newSealer(key), claims: make(chan claimed, 1)}
	defer s.serve(ctx, &Conn{NATS: nc, JetStream: js, Box: m.peers.self, Instance: m.instance, View: m.View, began: time.Now(), secret: key, messages: &m.messages})()
	_, err = nc.Subscribe(subjects+"*", func(msg *nats.Msg) { m.receive(s.sealer, strings.TrimPrefix(msg.Subject, subjects), msg.Data) })
	if err != nil {
		return fmt.Errorf("subscribe to %s*: %w", subjects, err)
	}
	return s.run(ctx, broken)
}

func (s *session) run(ctx context.Context, broken <-chan error) error {
	// A claim outlives ctx for as long as leave waits for it, but not the connection.
	claims, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		cancel()
		if s.claiming {
			<-s.claims
		}
	}()
	tick := time.NewTicker(AnnounceInterval)
	defer tick.Stop()
	if s.keepsName() {
		s.joined = true
		s.storedNow()
		s.announce(false)
	}
	s.claim(claims)
	for {
		var ok <-chan *jetstream.PubAck
		var failed <-chan error
		if s.pending != nil {
			ok, failed = s.pending.Ok(), s.pending.Err()
		}
		select {
		case <-ctx.Done():
			s.leave()
			return ctx.Err()
		case err := <-broken:
			return err
		case <-tick.C:
			if !s.joined { // the box with its name may have left
				s.claim(claims)
				continue
			}
			s.checkStored()
			s.announce(false)
		case <-s.m.changed:
			if s.joined {
				s.announce(false)
			}
		case ack := <-ok:
			s.pending, s.m.revision, s.owned = nil, ack.Sequence, time.Now()
			s.storedNow()
		case err := <-failed:
			s.m.o.Log.Debug().Err(err).Msg("the bucket has not stored an announcement")
			s.pending = nil
			s.claim(claims)
		case result := <-s.claims:
			s.claiming = false
			if err := s.apply(result); err != nil {
				return err
			}
		}
	}
}

// keepsName reports whether the box may announce itself before the bucket has confirmed that
// it has its name: it has had it on the last connection, and so short ago that no other box
// can have taken it. A bucket that has lost its leader confirms nothing for a while.
func (s *session) keepsName() bool { return time.Since(s.m.announced) < silence }

// announce sends the state of the box to the others, and to the bucket. The bucket stores it
// if its last announcement of this name is the one that this box knows of.
func (s *session) announce(leaving bool) {
	value, err := s.value(leaving)
	if err != nil {
		s.m.setLink(link{joined: s.joined, problem: err.Error()})
		return
	}
	msg := nats.NewMsg(subjects + s.m.peers.self)
	msg.Data = value
	// An error means that the connection is lost, or that acknowledgements are: both end soon.
	if pending, err := s.js.PublishMsgAsync(msg, jetstream.WithExpectLastSequencePerSubject(s.m.revision)); err == nil {
		s.pending = pending
		s.m.announced = time.Now()
	}
}

// value returns the next announcement.
func (s *session) value(leaving bool) ([]byte, error) {
	b := s.m.o.State()
	seq := s.m.seq.Add(1)
	b.Name, b.Instance, b.Seq, b.Leaving = s.m.peers.self, s.m.instance, seq, leaving
	b.Address = strings.TrimRight(s.m.o.Settings.Advertise, "/")
	return s.sealer.seal(&b)
}

func (s *session) storedNow() {
	s.stored = time.Now()
	s.m.noteReceived()
	s.m.setLink(link{joined: true})
}

// checkStored reports in the view that the bucket has stored no announcement for long.
func (s *session) checkStored() {
	if time.Since(s.stored) > storeTimeout {
		s.m.setLink(link{joined: true, problem: fmt.Sprintf(
			"JetStream has stored no announcement of this box in the bucket %s for over %s; boxes still receive each other's announcements. Check the quorum and the free space of the NATS servers",
			bucketName, storeTimeout,
		)})
	}
}

// leave tells the other boxes that this one goes, and frees its name in the bucket.
func (s *session) leave() {
	late, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if s.claiming { // the others see what the claim writes
		select {
		case result := <-s.claims:
			s.claiming = false
			if result.err == nil && result.holder == nil {
				s.m.revision, s.joined = result.revision, true
			}
		case <-late.Done():
		}
	}
	if !s.joined {
		return
	}
	if s.pending != nil {
		select {
		case ack := <-s.pending.Ok():
			s.m.revision = ack.Sequence
		case err := <-s.pending.Err():
			s.m.o.Log.Debug().Err(err).Msg("the bucket has not stored an announcement")
		case <-late.Done():
		}
	}
	s.announce(true)
	_ = s.nc.FlushTimeout(leaveTimeout) // the others find a box that is silent, too
}

// claimed is the result of a claim.
type claimed struct {
	revision uint64
	holder   *Peer // the box that has the name; nil = this one
	err      error
}

// claim begins to make the name of this box its own in the bucket, unless it does so already.
func (s *session) claim(ctx context.Context) {
	if s.claiming {
		return
	}
	s.claiming = true
	value, err := s.value(false)
	if err != nil {
		s.claims <- claimed{err: err}
		return
	}
	owner := time.Since(s.owned) < silence
	go func() {
		var result claimed
		for range 3 { // others may write to the key meanwhile
			if result = s.tryClaim(ctx, value, owner); !IsConflict(result.err) {
				break
			}
		}
		s.claims <- result
	}()
}

// tryClaim takes the name if no other box has it. owner is whether this box had it so short ago
// that none can have taken it since: what the bucket has of another process was sent again by an
// outsider.
func (s *session) tryClaim(ctx context.Context, value []byte, owner bool) claimed {
	within, cancel := context.WithTimeout(ctx, 3*requestTimeout+silence)
	defer cancel()
	kv, err := openBucket(within, s.nc, s.js, boxesBucket())
	if err != nil {
		return claimed{err: err}
	}
	name := s.m.peers.self
	entry, err := kv.Get(within, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		revision, err := kv.Create(within, name, value)
		return written(revision, err)
	}
	if err != nil {
		return claimed{err: fmt.Errorf("read the bucket %s: %w", bucketName, err)}
	}
	held, err := s.sealer.open(entry.Value())
	if err == nil && held.Instance == s.m.instance && !held.Leaving {
		return claimed{revision: entry.Revision()}
	}
	if err == nil && !held.Leaving && !owner { // of a box that is there, or was killed
		if holder := s.awaitNamesake(within); holder != nil {
			return claimed{holder: holder}
		}
		if ctx.Err() != nil {
			return claimed{err: ctx.Err()}
		}
	}
	revision, err := kv.Update(within, name, value, entry.Revision())
	return written(revision, err)
}

// written is the result of a claim that has written to the bucket.
func written(revision uint64, err error) claimed {
	if err != nil {
		return claimed{err: fmt.Errorf("write to the bucket %s: %w", bucketName, err)}
	}
	return claimed{revision: revision}
}

// awaitNamesake waits until a box with the name of this one announces itself, or has been silent for
// so long that it is gone.
func (s *session) awaitNamesake(ctx context.Context) *Peer {
	gone := time.NewTimer(silence)
	defer gone.Stop()
	for {
		changed := s.m.View().Changed
		if holder := s.m.namesake(); holder != nil {
			return holder
		}
		select {
		case <-ctx.Done():
			return nil
		case <-gone.C:
			return nil
		case <-changed:
		}
	}
}

// apply takes over the result of a claim. An error ends the session.
func (s *session) apply(result claimed) error {
	switch {
	case result.holder != nil:
		s.joined, s.m.announced = false, time.Time{}
		s.m.setLink(link{problem: fmt.Sprintf("another box at %s has the name %s; set another fleet.name for one of them in llmsup.yaml and run llmsup reload",
			result.holder.Address, result.holder.Name)})
	case result.err != nil && s.joined: // the next announcement finds out whether the bucket works again
	case result.err != nil:
		return result.err
	default:
		s.m.revision, s.joined, s.owned = result.revision, true, time.Now()
		s.announce(false)
		s.storedNow()
	}
	return nil
}
