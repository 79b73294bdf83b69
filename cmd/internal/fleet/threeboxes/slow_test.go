package threeboxes

import (
	"strings"
	"testing"
	"time"
)

// megabit is 1 Mbit/s in bytes a second.
const megabit = 1_000_000 / 8

// networks are slow ones: between the boxes, and from the boxes to NATS. padding is what the calls
// have beside their short prompts, in bytes.
var networks = []struct {
	name        string
	boxes, nats way
	padding     int
}{
	{"300 ms between boxes, 600 ms to NATS", way{delay: 150 * time.Millisecond, jitter: 50 * time.Millisecond}, way{delay: 300 * time.Millisecond}, 0},
	{"50 ms between boxes", way{delay: 25 * time.Millisecond}, way{}, 0},
	{"1 Mbit/s between boxes", way{rate: megabit}, way{}, 0},
	{"1 Mbit/s between boxes, calls of 200 KB", way{rate: megabit, delay: 10 * time.Millisecond}, way{}, 200 << 10},
	{"1.5 s to NATS", way{}, way{delay: 750 * time.Millisecond}, 0},
	{"1.5 to 2.5 s to NATS", way{}, way{delay: 750 * time.Millisecond, jitter: time.Second}, 0},
}

// networkSlow has calls in slow networks.
func (f *fleet) networkSlow(t *testing.T, _ *box) {
	if f.lines == nil {
		f.lines = map[*box]*line{}
		for _, b := range f.boxes {
			f.lines[b] = newLine(f.t, b.host)
		}
	}
	tried := networks
	if !long() {
		tried = networks[:1]
	}
	for _, network := range tried {
		f.setNetwork(network.boxes, network.nats)
		f.clients.setPadding(network.padding)
		began := time.Now()
		f.clients.awaitAnswers(t, 3*rate())
		t.Logf("%s: %d answers in %s", network.name, 3*rate(), time.Since(began).Round(time.Millisecond))
	}
	f.setNetwork(way{}, way{})
	f.clients.setPadding(0)
}

func (f *fleet) setNetwork(toBoxes, toNATS way) {
	for _, b := range f.boxes {
		for _, other := range f.others(b) {
			f.lines[b].set(other.host, toBoxes)
		}
		for _, h := range f.natsAt {
			f.lines[b].set(h, toNATS)
		}
	}
}

// setPadding sets how many bytes are added to the body of each call.
func (c *clients) setPadding(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.padding = strings.Repeat("x", n)
}
