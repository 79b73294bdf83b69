package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bucketName is the key-value bucket of a fleet. Two fleets need two NATS accounts.
const bucketName = "llmsup-boxes"

// subjects begins the subjects of the bucket's keys, which are the boxes' names.
const subjects = "$KV." + bucketName + "."

const (
	// bucketTTL is how long the bucket keeps the last announcement of a box. It may be far longer
	// than clocks of NATS servers differ: only a joining box reads the bucket.
	bucketTTL = 30 * time.Second
	// bucketSize limits the bucket, in bytes: enough for thousands of boxes; it caps what an outsider
	// can store.
	bucketSize = 64 << 20
	// replicas are the copies of the bucket in a cluster: it survives the loss of one server.
	replicas = 3
)

// boxesBucket is the bucket of the announcements.
func boxesBucket() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: bucketName, Description: "the boxes of llmsup's fleet", TTL: bucketTTL, History: 1, Storage: jetstream.MemoryStorage,
		MaxValueSize: maxValue, MaxBytes: bucketSize,
	}
}

// OpenBucket returns a bucket, and creates it if it does not exist: with three copies if the NATS
// servers are a cluster, else with one. config.Replicas is ignored.
func (c *Conn) OpenBucket(ctx context.Context, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	return openBucket(ctx, c.NATS, c.JetStream, config)
}

func openBucket(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*requestTimeout)
	defer cancel()
	config.Replicas = 1
	if nc.ConnectedClusterName() != "" {
		config.Replicas = replicas
	}
	kv, err := js.KeyValue(ctx, config.Bucket)
	switch {
	case err == nil:
		return addCopies(ctx, js, kv, config), nil
	case errors.Is(err, jetstream.ErrBucketNotFound):
		kv, err = createBucket(ctx, js, config)
	}
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s in JetStream: %w", config.Bucket, explain(err))
	}
	return kv, nil
}

// addCopies returns a bucket, with more copies if it has too few since the cluster has grown.
func addCopies(ctx context.Context, js jetstream.JetStream, kv jetstream.KeyValue, config jetstream.KeyValueConfig) jetstream.KeyValue {
	if config.Replicas == 1 {
		return kv
	}
	if status, err := kv.Status(ctx); err != nil || status.Config().Replicas >= config.Replicas {
		return kv
	}
	if more, err := js.UpdateKeyValue(ctx, config); err == nil {
		return more
	}
	return kv
}

// createBucket creates a bucket, with one copy if the cluster is too small for more.
func createBucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := js.CreateKeyValue(ctx, config)
	if err != nil && config.Replicas > 1 {
		config.Replicas = 1
		kv, err = js.CreateKeyValue(ctx, config)
	}
	if errors.Is(err, jetstream.ErrBucketExists) { // another box has created it at the same moment
		kv, err = js.KeyValue(ctx, config.Bucket)
	}
	return kv, err
}

// IsConflict reports whether a bucket has refused a write, because the key has another revision
// than the one that was to be replaced.
func IsConflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
