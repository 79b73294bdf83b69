package fleetconfig

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
	bucketName = "llmsup-config"
	// purpose is what documents are sealed for.
	purpose = "configuration"

	history    = 16        // versions that the bucket keeps
	searched   = 256       // revisions of the bucket, which may be those of several fleets, that are read to find a version
	maxValue   = 512 << 10 // bytes of a sealed document
	maxBucket  = 16 << 20  // bytes
	requestFor = 5 * time.Second
)

// bucket is the fleet's bucket on one connection.
type bucket struct {
	kv  jetstream.KeyValue
	c   *fleet.Conn
	key string // of this fleet's document
}

// entryKey returns the bucket's key of a fleet's document. Each fleet has its own one: boxes with
// another fleet's key, perhaps by mistake, must not replace the document of the others.
func entryKey(fleet string) string { return "document." + fleet }

// subject is that on which the document is written.
func (b *bucket) subject() string { return "$KV." + bucketName + "." + b.key }

// openBucket opens the bucket, and creates it if there is none.
func openBucket(ctx context.Context, c *fleet.Conn) (*bucket, error) {
	kv, err := c.OpenBucket(ctx, jetstream.KeyValueConfig{
		Bucket: bucketName, Description: "the configuration of llmsup's fleet", History: history, Storage: jetstream.FileStorage,
		MaxValueSize: maxValue, MaxBytes: maxBucket,
	})
	if err != nil {
		return nil, err
	}
	return &bucket{kv, c, entryKey(c.Fleet())}, nil
}

// errForeign means that what the bucket has is not sealed with this fleet's key.
var errForeign = errors.New("the fleet's configuration in the bucket " + bucketName + " was overwritten by a user of the NATS account who does not have the fleet's key")

// get returns the document, and its revision in the bucket; nil and 0 = there is none. After
// errForeign the revision is valid.
func (b *bucket) get(ctx context.Context) (*Document, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestFor)
	defer cancel()
	entry, err := b.kv.Get(ctx, b.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the bucket %s in JetStream: %w", bucketName, err)
	}
	d, err := b.open(entry.Value())
	return d, entry.Revision(), err
}

func (b *bucket) open(value []byte) (*Document, error) {
	raw, err := b.c.Open(purpose, value)
	if err != nil {
		return nil, errForeign
	}
	var d Document
	if err := json.Unmarshal(raw, &d); err != nil || d.Version == 0 {
		return nil, fmt.Errorf("the fleet's configuration cannot be read; a box with another version of llmsup may have pushed it")
	}
	return &d, nil
}

// errOvertaken means that another box has written a document meanwhile.
var errOvertaken = errors.New("another one was pushed at the same moment")

// put writes a document if the bucket's revision is still the given one; 0 = it has none.
func (b *bucket) put(ctx context.Context, d *Document, revision uint64) (uint64, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return 0, err
	}
	value := b.c.Seal(purpose, raw)
	if len(value) > maxValue {
		return 0, fmt.Errorf("the sections have over %d KiB", maxValue>>10)
	}
	ctx, cancel := context.WithTimeout(ctx, requestFor)
	defer cancel()
	if revision == 0 {
		revision, err = b.kv.Create(ctx, b.key, value)
	} else {
		revision, err = b.kv.Update(ctx, b.key, value, revision)
	}
	switch {
	case fleet.IsConflict(err):
		return 0, errOvertaken
	case err != nil:
		return 0, fmt.Errorf("write to the bucket %s in JetStream: %w", bucketName, err)
	}
	return revision, nil
}

// earlier returns a document that the bucket still has by its version; nil = none. It needs no
// consumer, which an account may forbid: revisions count the documents in the bucket.
func (b *bucket) earlier(ctx context.Context, version uint64) (*Document, error) {
	_, newest, err := b.get(ctx)
	if err != nil && !errors.Is(err, errForeign) {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestFor)
	defer cancel()
	for revision, found := newest, 0; revision > 0 && revision+searched > newest && found < history; revision-- {
		entry, err := b.kv.GetRevision(ctx, b.key, revision)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound): // another fleet's, or deleted by an outsider
			continue
		case err != nil:
			return nil, fmt.Errorf("read the bucket %s in JetStream: %w", bucketName, err)
		}
		found++
		if d, err := b.open(entry.Value()); err == nil && d.Version == version {
			return d, nil
		}
	}
	return nil, nil
}
