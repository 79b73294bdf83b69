package fleetconfig

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// pollInterval is how often the bucket is read if no message arrives, and a refused version tried again.
const pollInterval = 15 * time.Second

// rereads are the pauses before the bucket is read again after a message on its subject: it may
// be on its way into the bucket, or be refused by it.
var rereads = []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// Serve implements fleet.Service: it has the box apply each new document.
func (m *Manager) Serve(ctx context.Context, c *fleet.Conn) error {
	b, err := openBucket(ctx, c)
	if err != nil {
		m.mu.Lock()
		m.failed = err
		m.mu.Unlock()
		return err
	}
	m.connect(b, c.Fleet())
	defer m.connect(nil, c.Fleet())
	written := make(chan struct{}, 1)
	sub, err := c.NATS.Subscribe(b.subject(), func(*nats.Msg) {
		select {
		case written <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", b.subject(), err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed already
	poll := time.NewTicker(m.poll)
	defer poll.Stop()
	for ctx.Err() == nil {
		if _, err := m.sync(ctx, b); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-poll.C:
			m.retry()
			m.warnTargets() // not before: boxes may start together
		case <-written:
			if err := m.reread(ctx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// reread reads the bucket until it has something new.
func (m *Manager) reread(ctx context.Context, b *bucket) error {
	for _, pause := range rereads {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if isNew, err := m.sync(ctx, b); isNew || err != nil {
			return err
		}
	}
	return nil
}

// connect sets the bucket; nil = there is no connection any more.
func (m *Manager) connect(b *bucket, fleet string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fleet != fleet { // what another fleet has counts no more
		m.refused, m.problem = nil, ""
	}
	m.bucket, m.fleet, m.seen, m.failed = b, fleet, 0, nil
	close(m.changed)
	m.changed = make(chan struct{})
}

// handled notes that a revision of the bucket needs no more attention.
func (m *Manager) handled(revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = max(m.seen, revision)
}

// markCurrent notes that the box runs what the fleet has.
func (m *Manager) markCurrent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused, m.problem = nil, ""
}

// sync reads the bucket, and does what its document needs. It reports whether it was new: none is
// not, since the first document may be on its way into the bucket.
func (m *Manager) sync(ctx context.Context, b *bucket) (isNew bool, err error) {
	d, revision, err := b.get(ctx)
	foreign := errors.Is(err, errForeign)
	if err != nil && !foreign {
		return false, err
	}
	m.mu.Lock()
	seen, own := m.seen, m.own()
	switch {
	case foreign && own == nil && revision != seen:
		m.problem = errForeign.Error() + "; push it again"
		m.o.Log.Warn().Msg(m.problem)
	case err == nil && d == nil && own == nil && m.refused == nil: // what an outsider had written is gone
		m.problem = ""
	}
	m.mu.Unlock()
	if revision != 0 && revision == seen {
		return false, nil
	}
	switch {
	case own == nil && d == nil: // the fleet has none, or an outsider has overwritten it
		m.handled(revision)
		return false, nil
	case d == nil || own != nil && d.Version < own.Version:
		return true, m.restore(ctx, b, own, d, revision)
	case own != nil && d.Version == own.Version && d.Text == own.Text:
		m.markCurrent()
	default:
		_ = m.apply(d) // the box keeps what it has, and says so
	}
	m.handled(revision)
	return true, nil
}

// restore puts the document of this box into the bucket, which has lost it or got an older one.
func (m *Manager) restore(ctx context.Context, b *bucket, own, older *Document, revision uint64) error {
	written, err := b.put(ctx, own, revision)
	if errors.Is(err, errOvertaken) { // it is read again soon
		return nil
	}
	if err != nil {
		return err
	}
	m.handled(written)
	log := m.o.Log.Warn().Uint64("version", own.Version)
	if older != nil {
		log = log.Uint64("older", older.Version)
	}
	log.Msg("the bucket had no configuration of the fleet, or an older one; this box restored its own")
	return nil
}
