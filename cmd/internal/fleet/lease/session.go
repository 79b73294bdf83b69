package lease

import (
	"maps"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/router/usd"
)

// session is what a Leaser uses of a connection.
type session struct {
	bucket  bucket
	box     string          // name of this box
	present func() []string // all boxes of the fleet, this one included
	ask     func(need)      // sends a message to the other boxes
}

func newSession(c *fleet.Conn, kv jetstream.KeyValue) *session {
	return &session{
		bucket: &store{c: c, kv: kv}, box: c.Box,
		present: func() []string {
			names := []string{c.Box}
			for _, b := range c.View().Boxes {
				names = append(names, b.Name)
			}
			return names
		},
		ask: func(n need) { _ = c.Send(needSubject, purpose, n) }, // the next call asks again
	}
}

// need is what a box asks the others for.
type need struct {
	Window string     `json:"window"`
	Box    string     `json:"box"`
	Amount usd.Amount `json:"amount"`
	From   []string   `json:"from"` // leases that are asked; each gives back up to Amount
}

// names is a set of names that one goroutine adds to and another one takes.
type names struct {
	wake chan struct{} // receives when there are some
	mu   sync.Mutex
	set  map[string]bool
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil {
		n.set = map[string]bool{}
	}
	n.set[name] = true
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *names) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	set := n.set
	n.set = nil
	return slices.Collect(maps.Keys(set))
}
