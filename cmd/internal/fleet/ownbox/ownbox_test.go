package ownbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/boxes"
)

// box is a daemon without calls.
type box struct {
	feed.Traffic
	status control.Status
}

func (b box) Status() control.Status    { return b.status }
func (box) Models() []control.Model     { return nil }
func (box) Changes() []<-chan struct{}  { return nil }
func (box) InFlight() []feed.Call       { return nil }
func (box) LastEnded() []feed.EndedCall { return nil }
func membershipOf(s control.Status) *Membership {
	return New(Options{Daemon: box{status: s}, Traffic: box{}, Log: zerolog.Nop()})
}

func TestBoxOf(t *testing.T) {
	drain := &control.Drain{Since: time.Now()}
	for name, tc := range map[string]struct {
		status control.Status
		want   string
	}{
		"nothing": {control.Status{Version: "v"}, `"version":"v","drained":false,"models":[],"gpus":[]`},
		"busy": {
			control.Status{Servers: []control.Server{{Name: "a", State: "ready", Slots: 4, Busy: 3, Queued: 2, ServiceSeconds: new(1.5), PromptTokensPerSecond: new(900.0), ContextLength: 8192, Capabilities: []models.Ability{models.Chat, models.Tools}, Aggregation: true}}},
			`{"name":"a","state":"ready","slots":4,"free":1,"queued":2,"tokens_per_second":12.5,"first_token_p50_seconds":null,"load_seconds":30,"loads_in_seconds":null,"drained":false,` +
				`"service_seconds":1.5,"prompt_tokens_per_second":900,"context_length":8192,"capabilities":["chat","tools"],"aggregation":true}`,
		},
		"more calls than slots": {
			control.Status{Servers: []control.Server{{Name: "b", State: "degraded", Slots: 1, Busy: 2}}}, `"slots":1,"free":0`,
		},
		"no free slots while it loads": {
			control.Status{Servers: []control.Server{{Name: "b", State: "loading", Slots: 4}}}, `"slots":4,"free":0`,
		},
		"unloaded": {
			control.Status{Servers: []control.Server{{Name: "b", State: "unloaded", LoadsInSeconds: new(4.5)}}}, `"loads_in_seconds":4.5`,
		},
		"slots unknown": {
			control.Status{Servers: []control.Server{{Name: "b", State: "starting"}}}, `"slots":null,"free":null`,
		},
		"drained": {
			control.Status{Drain: drain, Servers: []control.Server{{Name: "b", State: "drained", Drain: drain}}}, `"drained":true,"models":[{"name":"b"`,
		},
		"GPUs": {
			control.Status{GPUs: []control.GPU{{Index: 0, Health: "ok"}, {Index: 1, Health: "lost"}}},
			`"gpus":[{"index":0,"health":"ok"},{"index":1,"health":"lost"}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			speed, load := 12.5, 30.0
			got, err := json.Marshal(boxOf(tc.status, []control.Model{{Name: "a", LoadSeconds: &load}}, map[string]feed.Speed{"a": {TokensPerSecond: &speed}}))
			if err != nil || !strings.Contains(string(got), tc.want) {
				t.Errorf("%s, %v\nwant %s", got, err, tc.want)
			}
		})
	}
}

// Without a fleet nothing runs, and none is reported.
func TestNoFleet(t *testing.T) {
	before := goleak.IgnoreCurrent()
	m := membershipOf(control.Status{})
	m.Apply(fleet.Settings{})
	goleak.VerifyNone(t, before)
	if s, b := m.Status(), m.Boxes(); s != nil || b.Fleet != nil || len(b.Boxes) != 0 {
		t.Errorf("%+v, %+v", s, b)
	}
	m.Close()
}

func TestApply(t *testing.T) {
	before := goleak.IgnoreCurrent()
	m := membershipOf(control.Status{Version: "v", Servers: []control.Server{{Name: "a", State: "ready"}}})
	s := fleet.Settings{NATS: []string{"nats://127.0.0.1:1"}, Name: "gpu1", Advertise: "http://gpu1:8000", KeyFile: filepath.Join(t.TempDir(), "key")}
	if m.Apply(s) {
		t.Error("it joins for the first time, and says that a file has changed")
	}
	first := m.present.Load()
	if m.Apply(s) || m.present.Load() != first {
		t.Error("the same settings begin a new membership")
	}
	if err := os.WriteFile(s.KeyFile, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if !m.Apply(s) || m.present.Load() == first {
		t.Error("another key does not begin a new membership")
	}
	if s := m.Status(); s == nil || s.Box != "gpu1" || s.Joined || s.Problem == "" {
		t.Errorf("%+v", s)
	}
	all := m.Boxes()
	if len(all.Boxes) != 1 || !all.Boxes[0].This || all.Boxes[0].Name != "gpu1" || all.Boxes[0].Address != s.Advertise || all.Boxes[0].Models[0].Name != "a" {
		t.Errorf("%+v", all)
	}
	s.Name = "gpu2"
	m.Apply(s)
	if s := m.Status(); s.Box != "gpu2" {
		t.Errorf("%+v", s)
	}
	m.Apply(fleet.Settings{})
	if s := m.Status(); s != nil {
		t.Errorf("it has left, and is %+v", s)
	}
	m.Apply(s)
	m.Close()
	m.Apply(s)
	if s := m.Status(); s != nil {
		t.Errorf("it is closed, and is %+v", s)
	}
	goleak.VerifyNone(t, before)
}

// TestRouterKnowsBoxes: a box that starts knows the others before it takes calls. It forgets
// them if a reload takes it out of the fleet, and not if it stops: its last calls may need them.
func TestRouterKnowsBoxes(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	join := func(name string) (*Membership, *boxes.Registry, fleet.Settings) {
		s := fleet.Settings{NATS: []string{nats.URL}, Name: name, Advertise: "http://" + name + ":8000", KeyFile: key}
		known := &boxes.Registry{}
		m := New(Options{Daemon: box{status: control.Status{Servers: []control.Server{{Name: "a", State: "ready"}}}}, Traffic: box{}, Boxes: known, Log: zerolog.Nop()})
		t.Cleanup(m.Close)
		m.AwaitBoxes(t.Context()) // it is in no fleet
		m.Apply(s)
		began := time.Now()
		if m.AwaitBoxes(t.Context()); time.Since(began) < fleet.AnnounceInterval {
			t.Error("it has not waited until each box has announced itself")
		}
		return m, known, s
	}
	first, _, _ := join("gpu1")
	second, known, s := join("gpu2")
	await := func(what string) { // AwaitBoxes gives up on a busy machine
		t.Helper()
		for began := time.Now(); len(known.Servers("a")) != 1; time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > 30*time.Second {
				t.Fatal(what)
			}
		}
	}
	await("it does not know the server of the other box")
	gone := known.Servers("a")[0].Box().Gone
	second.Apply(fleet.Settings{})
	if len(known.Servers("a")) != 0 {
		t.Error("it has left the fleet, and knows the server of the other box")
	}
	select {
	case <-gone:
		t.Error("calls that wait at the other box were interrupted")
	default:
	}
	second.Apply(s)
	second.AwaitBoxes(t.Context())
	await("it does not know the server of the other box again")
	second.Close()
	if len(known.Servers("a")) != 1 {
		t.Error("it stops, and does not know the server of the other box")
	}
	first.Close()
}
