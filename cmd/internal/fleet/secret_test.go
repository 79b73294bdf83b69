package fleet

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

func TestSealedMessage(t *testing.T) {
	ours, theirs := secret("0123456789abcdef0123456789abcdef"), secret("another key, another fleet's key")
	message := []byte("gpu1 has spent 1.25 USD")
	sealed := ours.seal("report", message)
	if bytes.Contains(sealed, []byte("spent")) {
		t.Error("the message can be read")
	}
	if again := ours.seal("report", message); bytes.Equal(sealed, again) {
		t.Error("two messages have one nonce")
	}
	if got, err := ours.open("report", sealed); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another key":     func() ([]byte, error) { return theirs.open("report", sealed) },
		"another purpose": func() ([]byte, error) { return ours.open("budget", sealed) },
		"changed":         func() ([]byte, error) { return ours.open("report", changed) },
		"cut":             func() ([]byte, error) { return ours.open("report", sealed[:5]) },
		"empty":           func() ([]byte, error) { return ours.open("report", nil) },
	} {
		if got, err := open(); err == nil {
			t.Errorf("%s: it was opened: %q", name, got)
		}
	}
}

// TestHopCode: a code is good for one box at one process.
func TestHopCode(t *testing.T) {
	ours, theirs := secret("0123456789abcdef0123456789abcdef"), secret("another key, another fleet's key")
	to := &Box{Name: "gpu2", Instance: "A"}
	code := ours.hopCode("gpu1", to)
	if len(code) != 64 || code != ours.hopCode("gpu1", to) {
		t.Errorf("%q", code)
	}
	for name, other := range map[string]string{
		"another key":      theirs.hopCode("gpu1", to),
		"another box":      ours.hopCode("gpu3", to),
		"another target":   ours.hopCode("gpu1", &Box{Name: "gpu3", Instance: "A"}),
		"another instance": ours.hopCode("gpu1", &Box{Name: "gpu2", Instance: "B"}),
	} {
		if other == code {
			t.Errorf("%s has the same code", name)
		}
	}
}

// echo is a Service that answers each sealed message with its box's name.
type echo struct{ served chan *Conn }

func (e echo) Serve(ctx context.Context, c *Conn) error {
	_, err := c.NATS.Subscribe("echo", func(msg *nats.Msg) {
		if text, err := c.Open("echo", msg.Data); err == nil {
			_ = msg.Respond(c.Seal("echo", append(text, c.Box...)))
		}
	})
	if err != nil {
		return err
	}
	if err := c.NATS.Flush(); err != nil {
		return err
	}
	e.served <- c
	<-ctx.Done()
	return nil
}

// TestService: a service runs on each connection, one after another.
func TestService(t *testing.T) {
	server := fleettest.Start(t)
	a, b := newBox(settings(t, "a", server.URL)), newBox(settings(t, "b", server.URL))
	first, second := echo{make(chan *Conn, 9)}, echo{make(chan *Conn, 9)}
	a.o.Services, b.o.Services = []Service{first}, []Service{second}
	a.run(t)
	fromA := <-first.served
	answer, err := fromA.NATS.Request("echo", []byte("not sealed"), 10*time.Millisecond)
	if err == nil {
		t.Errorf("an answer to a message that is not sealed: %q", answer.Data)
	}
	b.run(t)
	<-second.served
	answer, err = fromA.NATS.Request("echo", fromA.Seal("echo", []byte("hello ")), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := fromA.Open("echo", answer.Data); err != nil || string(text) != "hello b" {
		t.Errorf("%q, %v", text, err)
	}
	server.Stop()
	server.Restart(t)
	if again := <-first.served; again == fromA {
		t.Error("the service has the old connection")
	}
}

// TestVerifyHop: a box takes the calls of a box with its fleet's key, for as long as it runs.
func TestVerifyHop(t *testing.T) {
	server := fleettest.Start(t)
	a, b := start(t, settings(t, "a", server.URL)), start(t, settings(t, "b", server.URL))
	a.sees(t, "b")
	code := a.HopCode(&a.View().Boxes[0])
	for name, tc := range map[string]struct {
		at         *box
		from, code string
		want       bool
	}{
		"right":        {b, "a", code, true},
		"another box":  {b, "c", code, false},
		"another code": {b, "a", "0" + code[1:], code[0] == '0'},
		"elsewhere":    {a, "a", code, false},
		"empty":        {b, "a", "", false},
	} {
		if got := tc.at.VerifyHop(tc.from, tc.code); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
