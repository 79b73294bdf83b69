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
	// bucketTTL is how long the bucket keeps the last announcement of a box. Only a box that
	// joins reads it, so that it may be much longer than the clocks of NATS servers differ.
	bucketTTL = 30 * time.Second
	// bucketSize limits the bucket, in bytes: for thousands of boxes, and not for more that an
	// outsider could store.
	bucketSize = 64 << 20
	// replicas are the copies of the bucket in a cluster: it survives the loss of one server.
	replicas = 3
)

func bucketConfig(copies int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: bucketName, Description: "the boxes of llmsup's fleet", TTL: bucketTTL, History: 1, Storage: jetstream.MemoryStorage,
		MaxValueSize: maxValue, MaxBytes: bucketSize, Replicas: copies,
	}
}

// openBucket returns the bucket, and creates it if it does not exist: with copies if the
// servers are a cluster that is large enough.
func openBucket(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) (jetstream.KeyValue, error) {
	clustered := nc.ConnectedClusterName() != ""
	kv, err := js.KeyValue(ctx, bucketName)
	switch {
	case err == nil && clustered:
		status, err := kv.Status(ctx)
		if err == nil && status.Config().Replicas < replicas { // the cluster may have grown
			if more, err := js.UpdateKeyValue(ctx, bucketConfig(replicas)); err == nil {
				return more, nil
			}
		}
		return kv, nil
	case err == nil:
		return kv, nil
	case !errors.Is(err, jetstream.ErrBucketNotFound):
		return nil, fmt.Errorf("open the bucket %s in JetStream: %w", bucketName, explain(err))
	}
	if clustered {
		if kv, err = js.CreateKeyValue(ctx, bucketConfig(replicas)); err == nil {
			return kv, nil
		}
	}
	if kv, err = js.CreateKeyValue(ctx, bucketConfig(1)); err != nil {
		return nil, fmt.Errorf("create the bucket %s in JetStream: %w", bucketName, explain(err))
	}
	return kv, nil
}
