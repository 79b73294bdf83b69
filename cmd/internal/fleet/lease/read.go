package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/llmsup/llmsup/router/budget"
)

// A copy of the bucket may lag behind, and answer with a record that is older than the one that
// this box has seen. If maxOlder answers in a row are, over oldFor or longer, the bucket has lost
// the newer one.
const (
	oldFor   = 10 * time.Second
	maxOlder = 8
)

// read reads the record of a window. If the bucket has lost it, or an outsider has replaced it, the
// box begins to rebuild it with what it knows.
func (l *Leaser) read(ctx context.Context, s *session, w *window, lease *budget.Lease) error {
	key := windowKey(lease.LeaseID)
	r, revision, err := s.bucket.read(ctx, key)
	overwritten := errors.Is(err, errForeign)
	if err != nil && !overwritten {
		return err
	}
	older := revision < w.revision
	if older && w.mayLag() {
		return nil
	}
	if !older {
		w.older = 0
	}
	known := w.record
	switch {
	case overwritten || known != nil && (older || r.goneBack(known, lease)):
		r = r.lost()
		l.o.Log.Error().Str("budget", key).Msg("the record of the fleet's budget in the bucket " + bucketName +
			" was lost, or replaced by a user of the NATS account without the fleet's key; the boxes rebuild it, and take no more credit until they have")
	case known == nil && revision == 0 && l.missing(lease):
		r = r.lost()
	}
	if known != nil && known.Rebuilt != r.Rebuilt {
		r = r.merge(known)
	}
	if r.Rebuilt != w.rebuilt {
		w.rebuilt, w.rebuiltOn = r.Rebuilt, time.Now()
	}
	w.record, w.revision, w.fresh = r, revision, !older
	return nil
}

// mayLag notes an answer that is older than the record that is known, and reports whether it may be
// that of a copy that lags behind.
func (w *window) mayLag() bool {
	if w.older == 0 {
		w.older, w.olderSince = 1, time.Now()
		return true
	}
	w.older++
	return w.older <= maxOlder || time.Since(w.olderSince) < oldFor
}

// startTime is how long after it has connected a box may get the limits of its fleet. Those that it
// gets later are new, and have no record yet.
const startTime = 15 * time.Second

// missing reports whether there should be a record of a window of which this box knows none: it
// has begun, and the limit is not new.
func (l *Leaser) missing(lease *budget.Lease) bool {
	return l.wall().Sub(lease.From) > ahead && lease.Limited.Sub(l.connected) < startTime
}

// goneBack reports whether a record is an earlier one than a box knows, or lacks what the box holds
// of it. What a box may spend was always entered first.
func (r *Record) goneBack(known *Record, lease *budget.Lease) bool {
	return r.Version < known.Version || r.Rebuilt == known.Rebuilt && r.granted(lease.Unique) < lease.Granted
}

// lost returns a record from which parts may be missing. Each box adds what it knows, see plan.
func (r *Record) lost() *Record {
	next := new(*r)
	next.Rebuilt, next.Whole = rand.Text(), false
	return next
}
