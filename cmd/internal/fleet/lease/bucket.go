package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

const (
	bucketName = "llmsup-budget"
	// keepRecords is longer than a month plus any clock difference.
	keepRecords = 40 * 24 * time.Hour
	bucketSize  = 64 << 20 // bytes
	maxRecord   = 512 << 10
	// purpose is that of sealed records and messages.
	purpose = "budget"
	// requestTimeout limits the wait for an answer of a NATS server.
	requestTimeout = 2 * time.Second
)

// bucketConfig is the bucket of the records.
func bucketConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: bucketName, Description: "the budgets of llmsup's fleet", TTL: keepRecords, History: 1, Storage: jetstream.FileStorage,
		MaxValueSize: maxRecord, MaxBytes: bucketSize,
	}
}

// bucket has the records.
type bucket interface {
	// read returns a record and its revision; revision 0 = there is none. With errForeign the record is
	// empty, and the revision is that of what an outsider has written.
	read(ctx context.Context, window string) (*Record, uint64, error)
	// write replaces the record of a revision. Another error than errConflict may mean that the
	// record is, or will be, replaced.
	write(ctx context.Context, r *Record, revision uint64) (uint64, error)
}

// store is the bucket on one connection. Its keys begin with the name of the fleet, so that a
// new key of the fleet makes new records.
type store struct {
	c  *fleet.Conn
	kv jetstream.KeyValue
}

func (s *store) read(ctx context.Context, window string) (*Record, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	entry, err := s.kv.Get(ctx, s.c.Fleet()+"."+window)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return &Record{Window: window}, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the fleet's budget %s: %w", window, err)
	}
	body, err := s.c.Open(purpose, entry.Value())
	if err != nil {
		return &Record{Window: window}, entry.Revision(), errForeign
	}
	r, err := decode(window, body)
	if errors.Is(err, errForeign) {
		r = &Record{Window: window}
	}
	return r, entry.Revision(), err
}

func (s *store) write(ctx context.Context, r *Record, revision uint64) (uint64, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	key := s.c.Fleet() + "." + r.Window
	if revision == 0 {
		revision, err = s.kv.Create(ctx, key, s.c.Seal(purpose, body))
	} else {
		revision, err = s.kv.Update(ctx, key, s.c.Seal(purpose, body), revision)
	}
	switch {
	case err == nil:
		return revision, nil
	case fleet.IsConflict(err):
		return 0, errConflict
	}
	return 0, fmt.Errorf("change the fleet's budget %s: %w", r.Window, err)
}

// errConflict means that another box has replaced the record.
var errConflict = errors.New("another box has changed the record")
