package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Probe tries whether a box with these Settings could join its fleet, and returns the names
// of the boxes that it has heard of, this one's excepted. It changes nothing. taken reports
// that a box has this one's name: it may be this one itself.
func Probe(ctx context.Context, s Settings) (boxes []string, taken *Peer, err error) {
	key, err := s.readKey()
	if err != nil {
		return nil, nil, err
	}
	nc, broken, err := connect(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := js.KeyValue(within, bucketName); err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil, fmt.Errorf("open the bucket %s in JetStream: %w", bucketName, explain(err))
	}
	var mu sync.Mutex
	heard := peers{self: s.BoxName(), byName: map[string]Peer{}}
	seal := newSealer(key)
	_, err = nc.Subscribe(subjects+"*", func(msg *nats.Msg) {
		if b, err := seal.open(msg.Data); err == nil && b.Name == strings.TrimPrefix(msg.Subject, subjects) {
			mu.Lock()
			defer mu.Unlock()
			heard.observe(b, "", time.Now())
		}
	})
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case err := <-broken:
		return nil, nil, err
	case <-time.After(AnnounceInterval * 3 / 2):
	}
	mu.Lock()
	defer mu.Unlock()
	present, _ := heard.known(time.Now())
	for _, peer := range present {
		boxes = append(boxes, peer.Name)
	}
	if alive := heard.rivalAlive(time.Now()); alive != nil {
		taken = new(*alive)
	}
	return boxes, taken, nil
}
