package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// needed are the subjects that a box subscribes to. The package's README has all permissions.
var needed = []string{"$KV.llmsup-config.>", "$KV.llmsup-budget.>", "llmsup.>"}

// maxForeign limits what an outsider can have a probe report.
const maxForeign = 20

// ProbeResult is what Probe has found out about the boxes.
type ProbeResult struct {
	Boxes   []Peer   // the others of this fleet, sorted by name
	Taken   *Peer    // has this box's name, and may be this one itself; nil = the name is free
	Foreign []string // names of those with another key, sorted

	self string
	key  secret
}

// Hop returns the name of this box, and what authenticates its calls at another one.
func (r *ProbeResult) Hop(to *Peer) string { return r.self + " " + r.key.hopCode(r.self, &to.Box) }

// Probe tries whether a box with these Settings could join its fleet, and returns the boxes
// that it has received announcements of. It changes nothing.
func Probe(ctx context.Context, s Settings) (*ProbeResult, error) {
	key, err := s.readKey()
	if err != nil {
		return nil, err
	}
	nc, broken, err := connect(ctx, s)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := js.KeyValue(within, bucketName); err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, fmt.Errorf("open the bucket %s in JetStream: %w", bucketName, explain(err))
	}
	for _, subject := range needed {
		if _, err := nc.Subscribe(subject, func(*nats.Msg) {}); err != nil {
			return nil, err
		}
	}
	result, err := receiveAll(ctx, nc, broken, peers{self: s.BoxName(), byName: map[string]Peer{}}, newSealer(key))
	if err != nil {
		return nil, err
	}
	result.self, result.key = s.BoxName(), key
	return result, nil
}

// receiveAll receives an announcement of each box: every box makes one a second.
func receiveAll(ctx context.Context, nc *nats.Conn, broken <-chan error, all peers, seal sealer) (*ProbeResult, error) {
	var mu sync.Mutex
	foreign := map[string]bool{}
	_, err := nc.Subscribe(subjects+"*", func(msg *nats.Msg) {
		name := strings.TrimPrefix(msg.Subject, subjects)
		b, err := seal.open(msg.Data)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.Is(err, errForeign) && len(foreign) < maxForeign:
			foreign[name] = true
		case err == nil && b.Name == name:
			all.observe(b, "", time.Now())
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case err := <-broken:
		return nil, err
	case <-time.After(AnnounceInterval * 3 / 2):
	}
	mu.Lock()
	defer mu.Unlock()
	present, _ := all.known(time.Now())
	result := &ProbeResult{Boxes: present, Foreign: slices.Sorted(maps.Keys(foreign))}
	if alive := all.aliveNamesake(time.Now()); alive != nil {
		result.Taken = new(*alive)
	}
	return result, nil
}
