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

// Heard is what Probe has heard of the boxes.
type Heard struct {
	Boxes   []Peer   // the others of this fleet, sorted by name
	Taken   *Peer    // has this box's name, and may be this one itself; nil = the name is free
	Foreign []string // names of those with another key, sorted

	self string
	key  secret
}

// Hop returns the name of this box, and what authenticates its calls at another one.
func (h *Heard) Hop(to *Peer) string { return h.self + " " + h.key.hopCode(h.self, &to.Box) }

// Probe tries whether a box with these Settings could join its fleet, and returns the boxes
// that it has heard of. It changes nothing.
func Probe(ctx context.Context, s Settings) (*Heard, error) {
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
	heard, err := hearAll(ctx, nc, broken, peers{self: s.BoxName(), byName: map[string]Peer{}}, newSealer(key))
	if err != nil {
		return nil, err
	}
	heard.self, heard.key = s.BoxName(), key
	return heard, nil
}

// hearAll hears each box that announces itself.
func hearAll(ctx context.Context, nc *nats.Conn, broken <-chan error, heard peers, seal sealer) (*Heard, error) {
	var mu sync.Mutex
	foreign := map[string]bool{}
	_, err := nc.Subscribe(subjects+"*", func(msg *nats.Msg) {
		name := strings.TrimPrefix(msg.Subject, subjects)
		b, err := seal.open(msg.Data)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && b.Name == name {
			heard.observe(b, "", time.Now())
		} else if len(foreign) < maxForeign {
			foreign[name] = true
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
	present, _ := heard.known(time.Now())
	found := &Heard{Boxes: present, Foreign: slices.Sorted(maps.Keys(foreign))}
	if alive := heard.rivalAlive(time.Now()); alive != nil {
		found.Taken = new(*alive)
	}
	return found, nil
}
