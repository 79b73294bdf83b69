package lease

import (
	"context"
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

// read reads the record of a window. If it has gone back to an earlier version, or is gone, the
// NATS servers have lost data, or another program writes to the bucket: grants of other boxes
// may be missing. Then this process takes no more credit of this window: it enters what it has.
func (l *Leaser) read(ctx context.Context, s *session, w *window, lease *budget.Lease) error {
	key := windowKey(lease.LeaseID)
	r, revision, err := s.bucket.read(ctx, key)
	if err != nil {
		return err
	}
	older := revision < w.revision
	switch {
	case !older:
		w.older = 0
	case w.older == 0:
		w.older, w.olderSince = 1, time.Now()
		return nil
	case w.older < maxOlder || time.Since(w.olderSince) < oldFor:
		w.older++
		return nil
	}
	// What this process may spend was always entered first.
	if w.record != nil && (older || r.Version < w.record.Version || r.granted(lease.Unique) < lease.Granted) && !w.lost {
		w.lost = true
		l.o.Log.Error().Str("budget", key).Msg("the bucket " + bucketName + " has lost a record of the fleet's budget; this box takes no more credit of it. Once all boxes are in the fleet, restart llmsup on each")
	}
	w.record, w.revision, w.fresh = r, revision, !older
	return nil
}
