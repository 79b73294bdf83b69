package fleet

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// connTo returns a connection of a process, which knows other processes.
func connTo(t *testing.T, url, instance string, m *messages, others ...string) *Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.NoEcho())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	v := &View{}
	for _, other := range others {
		v.Boxes = append(v.Boxes, Peer{Box: Box{Name: "box of " + other, Instance: other}})
	}
	return &Conn{NATS: nc, Instance: instance, View: func() *View { return v }, secret: secret("0123456789abcdef0123456789abcdef"), messages: m}
}

// TestMessages: a message is received once, by the processes that it is for, whatever is sent again: at
// once, on a later connection, as another kind of message, or to a process that has started since.
func TestMessages(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	const subject = "llmsup.test"
	a := connTo(t, server.URL, "a", &messages{}, "b")
	outsider, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(outsider.Close)
	seen, err := outsider.SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan string, 100)
	receive := func(c *Conn, subject, purpose string) (stop func()) {
		t.Helper()
		stop, err := c.Receive(subject, purpose, func(body []byte) { received <- c.Instance + " " + purpose + " " + string(body) })
		if err != nil || c.NATS.Flush() != nil {
			t.Fatal(err)
		}
		return stop
	}
	ofB := &messages{}
	stop := receive(connTo(t, server.URL, "b", ofB), subject, "test")
	next := func(want string) {
		t.Helper()
		select {
		case got := <-received:
			if got != want {
				t.Fatalf("%s was received, not %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not received", want)
		}
	}
	send := func(text string) []byte {
		t.Helper()
		if err := a.Send(subject, "test", text); err != nil {
			t.Fatal(err)
		}
		m, err := seen.NextMsg(30 * time.Second)
		if err != nil || bytes.Contains(m.Data, []byte(text)) {
			t.Fatalf("an outsider reads it: %v, %v", m, err)
		}
		return m.Data
	}
	var old [][]byte
	again := func(subject string) {
		t.Helper()
		for _, m := range append(old, []byte("rubbish"), nil) {
			if err := outsider.Publish(subject, m); err != nil {
				t.Fatal(err)
			}
		}
		if err := outsider.Flush(); err != nil {
			t.Fatal(err)
		}
		for m, err := seen.NextMsg(time.Millisecond); err == nil; m, err = seen.NextMsg(time.Millisecond) { // its own
			_ = m
		}
	}
	for _, text := range []string{"first", "second"} {
		old = append(old, send(text))
		next(`b test "` + text + `"`)
	}
	again(subject)
	stop()
	receive(connTo(t, server.URL, "b", ofB), subject, "test")
	receive(connTo(t, server.URL, "c", &messages{}), subject, "test")         // started since
	receive(connTo(t, server.URL, "b", &messages{}), "llmsup.other", "other") // takes another kind of message
	again(subject)
	again("llmsup.other")
	a.View().Boxes = append(a.View().Boxes, Peer{Box: Box{Instance: "c"}})
	send("third") // comes after all that was sent again
	got := map[string]bool{}
	for range 2 {
		select {
		case m := <-received:
			got[m] = true
		case <-time.After(30 * time.Second):
		}
	}
	if !got[`b test "third"`] || !got[`c test "third"`] || len(received) != 0 {
		t.Errorf("%v and %d more were received", got, len(received))
	}
}

// TestMessageOfNewerVersion: a message counts, whatever else a newer version sends with it.
func TestMessageOfNewerVersion(t *testing.T) {
	c := &Conn{Instance: "b", messages: &messages{}}
	sealed := c.Seal("test", []byte(`{"from":"a","number":1,"priority":{"x":1},"to":["c","b"],"body":{"n":1}}`))
	if got := string(c.accept("test", sealed)); got != `{"n":1}` {
		t.Errorf("%q", got)
	}
}
