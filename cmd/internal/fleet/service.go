package fleet

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Service is what else a box does on its connection to NATS.
type Service interface {
	// Serve runs while the connection lasts, and returns soon after ctx has ended. Its error is
	// logged, and it is called again after a second or two, or for the next connection.
	Serve(ctx context.Context, c *Conn) error
}

// Conn is a box's connection to NATS.
type Conn struct {
	NATS      *nats.Conn
	JetStream jetstream.JetStream
	Box       string // name of this box
	Instance  string // of this process
	View      func() *View
	began     time.Time // when announcements began to arrive
	secret    secret
	messages  *messages // of this process: they outlast the connection
}

// Seal encrypts and authenticates a message with a key that all boxes of the fleet, and only
// they, can derive. A message of one purpose cannot be opened as one of another. It adds 28
// bytes. Others may send or store it again: what it says must tell an old one from a new one, as
// Send does.
func (c *Conn) Seal(purpose string, body []byte) []byte { return c.secret.seal(purpose, body) }

// Open is the inverse of Seal. An error means that the message is not of this fleet, or not
// for this purpose.
func (c *Conn) Open(purpose string, sealed []byte) ([]byte, error) {
	return c.secret.open(purpose, sealed)
}

// Fleet returns what distinguishes this fleet from others: it depends on the fleet's key, and
// does not reveal it.
func (c *Conn) Fleet() string { return hex.EncodeToString(c.secret.derive("name")[:8]) }

// AwaitBoxes waits until this box has heard of all others: each announces itself every AnnounceInterval.
func (c *Conn) AwaitBoxes(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Until(c.began.Add(AnnounceInterval * 5 / 4))):
	}
}

// serve runs the services until stop is called.
func (s *session) serve(ctx context.Context, c *Conn) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, service := range s.m.o.Services {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := service.Serve(ctx, c); err != nil && ctx.Err() == nil {
					s.m.o.Log.Warn().Str("service", fmt.Sprintf("%T", service)).Err(err).Msg("a fleet service failed and will be restarted")
				}
				select {
				case <-ctx.Done():
				case <-time.After(rejoinInterval + rand.N(rejoinInterval)):
				}
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}
