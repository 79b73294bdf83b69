package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
)

// envelope is what is sealed of a message to the other boxes.
type envelope struct {
	From   string          `json:"from"`   // instance of the sender
	Number uint64          `json:"number"` // of its messages; a later one has a higher one
	To     []string        `json:"to"`     // instances
	Body   json.RawMessage `json:"body"`
}

// messages are what a process remembers of the messages that it has sent and received.
type messages struct {
	sending sync.Mutex // they have to be sent in the order of their numbers
	sent    uint64     // number of the last one

	mu   sync.Mutex
	last map[sender]uint64 // number of the last one that was received
}

type sender struct{ purpose, instance string }

// Send sends a message, as JSON, to the other boxes that this one knows of. An outsider can
// neither read it nor change it. If an outsider sends it again, no box accepts it: it has a
// number, and names the processes that it is for.
func (c *Conn) Send(subject, purpose string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("send to the other boxes: %w", err)
	}
	e := envelope{From: c.Instance, Body: raw}
	for _, peer := range c.View().Boxes {
		e.To = append(e.To, peer.Instance)
	}
	c.messages.sending.Lock()
	defer c.messages.sending.Unlock()
	c.messages.sent++
	e.Number = c.messages.sent
	if raw, err = json.Marshal(e); err != nil {
		return fmt.Errorf("send to the other boxes: %w", err)
	}
	return c.NATS.Publish(subject, c.Seal(purpose, raw))
}

// Receive calls take for each message that other boxes send to this process, until stop is called.
// What is not of this fleet, or was received before, counts as nothing.
func (c *Conn) Receive(subject, purpose string, take func(body []byte)) (stop func(), err error) {
	sub, err := c.NATS.Subscribe(subject, func(m *nats.Msg) {
		if body := c.accept(purpose, m.Data); body != nil {
			take(body)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only if the connection is lost
}

// accept returns the body of a message that counts; nil = it does not.
func (c *Conn) accept(purpose string, sealed []byte) []byte {
	raw, err := c.Open(purpose, sealed)
	if err != nil {
		return nil
	}
	var e envelope
	if json.Unmarshal(raw, &e) != nil || !slices.Contains(e.To, c.Instance) {
		return nil
	}
	from := sender{purpose, e.From}
	c.messages.mu.Lock()
	defer c.messages.mu.Unlock()
	if e.Number <= c.messages.last[from] {
		return nil
	}
	if c.messages.last == nil {
		c.messages.last = map[sender]uint64{}
	}
	c.messages.last[from] = e.Number
	return e.Body
}
