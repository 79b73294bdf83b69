package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// TestStalledNATS: a box whose connection to NATS passes on nothing finds that it has lost the
// connection, and not that the other boxes are silent.
func TestStalledNATS(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	wire := fleettest.StartProxy(t, nats.URL)
	start(t, settings(t, "there", nats.URL))
	var behind []*box
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		b := start(t, settings(t, name, wire.URL))
		b.await(t, "in the fleet", func(v *View) bool { return v.Joined })
		behind = append(behind, b)
		time.Sleep(pingInterval / 5) // so that the stall comes at other times of their pings
	}
	for _, b := range behind {
		b.await(t, "in the fleet with all", func(v *View) bool { return len(v.Boxes) == len(behind) })
	}
	wire.Stall()
	for _, b := range behind {
		b.await(t, "alone", func(v *View) bool { return !v.Joined })
		if log := b.log.String(); strings.Contains(log, "silent") {
			t.Errorf("%s found others silent:\n%s", b.View().Name, log)
		}
	}
	behind[0].await(t, "without the others, of which it hears nothing", func(v *View) bool { return len(v.Boxes) == 0 })
	wire.Restore()
	for _, b := range behind {
		b.await(t, "in the fleet with all again", func(v *View) bool { return v.Joined && len(v.Boxes) == len(behind) })
	}
}

// TestSlowNATS: boxes join, and see changes, over a network to NATS with a round trip of 0.6 s.
func TestSlowNATS(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	wire := fleettest.StartProxy(t, nats.URL)
	wire.Slow(300 * time.Millisecond)
	a, b := start(t, settings(t, "a", wire.URL)), start(t, settings(t, "b", wire.URL))
	a.sees(t, "b")
	b.sees(t, "a")
	b.change(func(s *Box) { s.Drained = true })
	a.await(t, "a sees the drain", func(v *View) bool { return len(v.Boxes) == 1 && v.Boxes[0].Drained })
}

// TestLeaveWithSlowNATS: a box tells the others within half a second that it leaves, also if both the
// answer about its name and that about its last announcement are late.
func TestLeaveWithSlowNATS(t *testing.T) {
	t.Parallel()
	stalled := fleettest.Start(t, func(o *server.Options) { o.JetStream = false })
	b := newBox(settings(t, "b", stalled.URL))
	nc, _, err := connect(t.Context(), b.o.Settings)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	other, _, err := connect(t.Context(), b.o.Settings)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Subscribe(subjects+"b", func(*nats.Msg) {}); err != nil { // which acknowledges nothing
		t.Fatal(err)
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(requestTimeout))
	if err != nil {
		t.Fatal(err)
	}
	s := &session{m: b.Member, nc: nc, js: js, sealer: newSealer([]byte(fleetKey)), claims: make(chan claimed), claiming: true, joined: true}
	s.announce(false)
	began := time.Now()
	if s.leave(); time.Since(began) >= requestTimeout {
		t.Errorf("leaving took %s", time.Since(began))
	}
}
