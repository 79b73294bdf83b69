package ownbox

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/boxes"
)

// join returns the boxes as the router of a box in the fleet sees them.
func join(t *testing.T, name, url string) *boxes.Registry {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	known := &boxes.Registry{}
	status := control.Status{Servers: []control.Server{{Name: "demo", State: "ready", Slots: 4, Busy: 1, ContextLength: 2 << 20, Capabilities: []models.Ability{models.Chat}}}}
	m := New(Options{Daemon: box{status: status}, Traffic: box{}, Boxes: known, Log: zerolog.Nop()})
	m.Apply(fleet.Settings{NATS: []string{url}, Name: name, Advertise: "http://127.0.0.1:1", KeyFile: key})
	t.Cleanup(m.Close)
	return known
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen: " + what)
		}
	}
}

// TestWithoutNATS: the router keeps the boxes that it knew when NATS is lost, and forgets one
// that has left.
func TestWithoutNATS(t *testing.T) {
	nats := fleettest.Start(t)
	a := join(t, "a", nats.URL)
	t.Run("another box", func(t *testing.T) { // it leaves at the end
		join(t, "b", nats.URL)
		await(t, "a knows b's server", func() bool { return len(a.Servers("demo")) == 1 })
		peer := a.Servers("demo")[0]
		if now, sent := peer.Now(); now.Status != "ready" || now.Slots != 4 || now.Free != 3 || now.Context != 2<<20 || !slices.Equal(now.Abilities, []models.Ability{models.Chat}) || sent != 0 {
			t.Errorf("%+v, %d", now, sent)
		}
		nats.Stop()
		for range 40 { // silence ends after 3 s
			time.Sleep(100 * time.Millisecond)
			if list := a.Servers("demo"); len(list) != 1 || list[0] != peer && !list[0].Availability().Usable() {
				t.Fatalf("without NATS: %v", list)
			}
		}
		nats.Restart(t)
		await(t, "b is back", func() bool {
			list := a.Servers("demo")
			if len(list) != 1 {
				t.Fatal("a has forgotten b, since b has not joined again yet")
			}
			return list[0].Availability().Usable()
		})
	})
	await(t, "b has left", func() bool { return len(a.Servers("demo")) == 0 })
}

// TestBeforeJoining: a box that waits for its name, as after a kill, already sends calls to the other
// boxes, and they accept them.
func TestBeforeJoining(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	b := join(t, "b", nats.URL)
	a := join(t, "a", nats.URL)
	await(t, "a has the name", func() bool { return len(b.Servers("demo")) == 1 })
	waits := join(t, "a", nats.URL)
	await(t, "the second a knows b's server", func() bool { return len(waits.Servers("demo")) == 1 })
	hop := waits.Servers("demo")[0].Box().Hop
	if from, code, _ := strings.Cut(hop, " "); from != "a" || !b.Verify(from, code) {
		t.Error("b does not accept its calls")
	}
	if from, code, _ := strings.Cut(b.Servers("demo")[0].Box().Hop, " "); !a.Verify(from, code) {
		t.Error("b sends calls for a to the second one")
	}
}

// TestReload: while a reload has a box join again, its router keeps the boxes that it knows, also if
// that fails. They accept its calls, unless its key is another one.
func TestReload(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	b := join(t, "b", nats.URL)
	known := &boxes.Registry{}
	m := New(Options{Daemon: box{}, Traffic: box{}, Boxes: known, Log: zerolog.Nop()})
	t.Cleanup(m.Close)
	s := fleet.Settings{NATS: []string{nats.URL}, Name: "a", Advertise: "http://127.0.0.1:2", KeyFile: filepath.Join(t.TempDir(), "key")}
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(s.KeyFile, strings.Repeat("k", 32))
	accepted := func() bool {
		list := known.Servers("demo")
		if len(list) != 1 || !list[0].Availability().Usable() {
			return false
		}
		from, code, _ := strings.Cut(list[0].Box().Hop, " ")
		return from == s.Name && b.Verify(from, code)
	}
	m.Apply(s)
	await(t, "a knows b", func() bool { return m.Status().Joined && accepted() })

	before := known.Servers("demo")[0]
	s.NATS = []string{"nats://127.0.0.1:1"}
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		m.Apply(s)
	}()
	for began, done := time.Now(), reloaded; done != nil || time.Since(began) < time.Second; time.Sleep(time.Millisecond) {
		if list := known.Servers("demo"); len(list) != 1 || list[0] != before || !accepted() {
			t.Fatalf("with another server of NATS the box sends no calls to b: %v", list)
		}
		select {
		case <-done:
			done = nil
		default:
		}
	}

	s.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	write(s.CAFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})))
	m.Apply(s)
	await(t, "calls with the certificates of ca_file", func() bool { return accepted() && known.Servers("demo")[0].Box().Transport.TLSClientConfig != nil })
	s.NATS, s.Name = []string{nats.URL}, "c"
	m.Apply(s)
	await(t, "calls under another name", func() bool { return m.Status().Joined && accepted() })
	select {
	case <-before.Box().Gone:
		t.Error("calls that wait at b were interrupted")
	default:
	}

	write(s.KeyFile, strings.Repeat("l", 32))
	m.Apply(s)
	await(t, "no box with the old key", func() bool { return len(known.Servers("demo")) == 0 })
	if names := known.ServerNames(); !slices.Equal(names, []string{"demo"}) {
		t.Errorf("calls for a model of a box with the old key are not sent again later: known are %q", names)
	}
}

// TestRecent: which boxes are still known when NATS is lost.
func TestRecent(t *testing.T) {
	now := time.Now()
	peer := func(name string, ago time.Duration, leaving bool) fleet.Peer {
		return fleet.Peer{Box: fleet.Box{Name: name, Leaving: leaving}, Seen: now.Add(-ago)}
	}
	v := &fleet.View{
		Boxes:  []fleet.Peer{peer("c", 0, false)},
		Absent: []fleet.Peer{peer("a", 4*time.Second, false), peer("b", 4*time.Second, true), peer("d", time.Hour, false)},
	}
	var names []string
	for _, p := range recent(v, now) {
		names = append(names, p.Name)
	}
	if want := []string{"a", "c"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}
