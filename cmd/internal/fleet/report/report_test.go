package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/router/usd"
)

// amount returns an amount of USD that a text has.
func amount(t *testing.T, text string) *control.USD {
	t.Helper()
	a, err := usd.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return new(control.USD(a))
}

// missing returns the boxes that a report lacks, as "name why".
func missing(r control.FleetReport) (list []string) {
	for _, m := range r.Missing {
		list = append(list, m.Box+" "+m.Why)
	}
	return list
}

var day = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

// TestUsageOfThreeBoxes: sums are exact to the last digit, by group and by box, and what is
// unknown stays unknown. A box that has another version sends more fields.
func TestUsageOfThreeBoxes(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	usage := func(model, cost, saved string, calls int64) control.Usage {
		s := control.Sums{Calls: calls, Local: 1, Paid: 2, Cost: amount(t, cost), Saved: amount(t, saved), Prompt: new(calls), Cached: new(int64(0)), Completion: new(int64(7))}
		return control.Usage{From: day, To: day.Add(time.Hour), Total: s, Groups: []control.UsageGroup{{Name: model, Sums: s}}}
	}
	newer, err := json.Marshal(usage("b", "0.000000000003", "1234.000000000001", 5))
	if err != nil {
		t.Fatal(err)
	}
	unknown := usage("a", "0", "0", 1)
	unknown.Total.Cost, unknown.Total.UnknownCost = nil, 2
	unknown.Groups[0].Sums = unknown.Total
	unknown.Incomplete = "the ledger is behind"
	a := start(t, server.URL, "a", testKey, api{usagePath: usage("a", "0.1", "0.2", 10)})
	start(t, server.URL, "b", testKey, api{usagePath: strings.Replace(string(newer), "{", `{"news": {"x": [1]}, `, 1)})
	start(t, server.URL, "c", testKey, api{usagePath: unknown})
	a.sees(t, "b", "c")
	u, err := a.FleetUsage(t.Context(), day, time.Time{}, "model")
	if err != nil || !slices.Equal(u.Answered, []string{"a", "b", "c"}) || len(u.Missing) != 0 || u.Incomplete != "c: the ledger is behind" {
		t.Fatalf("%+v, %v", u, err)
	}
	got, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"total":{"calls":16,"failed":0,"local":3,"paid":6,"resumed":0,"partial":0,"prompt_tokens":16,"cached_tokens":0,"completion_tokens":21,"unknown_tokens":0,` +
			`"cost_usd":0.100000000003,"unknown_cost":2,"saved_usd":1234.200000000001,"unknown_saved":0}`,
		`"groups":[{"name":"a","calls":11,`, `{"name":"b","calls":5,`, `"boxes":[{"name":"a","calls":10,`, `{"name":"c","calls":1,`, `"missing":[]`, `"answered":["a","b","c"]`,
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	byBox, err := a.FleetUsage(t.Context(), day, time.Time{}, "box")
	if err != nil || len(byBox.Groups) != 3 || byBox.Groups[1].Name != "b" || byBox.Groups[1].Calls != 5 {
		t.Errorf("%+v, %v", byBox, err)
	}
	if c := byBox.Groups[2]; c.Cost != nil || c.UnknownCost != 2 {
		t.Errorf("c's costs are unknown, and are %v", c.Cost)
	}
}

// TestMissing: a report names each box that it lacks, and why: one that is slow, one that has
// no such report, one that has left, one that was killed. It takes no longer than the timeout.
func TestMissing(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	hangs := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	a := start(t, server.URL, "a", testKey, api{statusPath: control.Status{Inflight: 2}})
	start(t, server.URL, "b", testKey, api{statusPath: control.Status{Inflight: 3}})
	start(t, server.URL, "hangs", testKey, hangs)
	start(t, server.URL, "old", testKey, api{})
	start(t, server.URL, "strange", testKey, api{statusPath: "[]"})
	left := start(t, server.URL, "left", testKey, api{})
	start(t, server.URL, "outsider", strings.Repeat("another-key", 4), api{statusPath: control.Status{Inflight: 100}})
	a.sees(t, "b", "hangs", "left", "old", "strange")
	left.stop()
	a.sees(t, "b", "hangs", "old", "strange")
	a.timeout = 10 * time.Second
	began := time.Now()
	all, err := a.FleetStatus(t.Context())
	if took := time.Since(began); took < a.timeout || took > a.timeout+patience {
		t.Errorf("it took %s", took)
	}
	if err != nil || all.Inflight != 5 || len(all.Boxes) != 2 || all.Boxes[0].Box != "a" || all.Boxes[1].Status.Inflight != 3 {
		t.Errorf("%+v, %v", all, err)
	}
	got := missing(all.FleetReport)
	for i, want := range []string{"hangs has not answered within 10s", "left has left the fleet ", "old cannot answer: this daemon has no /v1/status", "strange has sent an answer that cannot be read"} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Fatalf("missing are %q, not %q", got, want)
		}
	}
	if len(got) != 4 {
		t.Errorf("missing are %q", got)
	}
}

// TestAlone: without NATS a report has this box, and says so; without a fleet there is none.
func TestAlone(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	status := api{statusPath: control.Status{Inflight: 2}}
	a, b := start(t, server.URL, "a", testKey, status), start(t, server.URL, "b", testKey, status)
	a.sees(t, "b")
	b.sees(t, "a")
	server.Stop()
	a.await(t, "alone", func(v *fleet.View) bool { return !v.Joined })
	for why, is := range map[string]func(*fleet.View) bool{
		"b was not asked: this box is not in the fleet": func(v *fleet.View) bool { return len(v.Boxes) == 1 },
		"b has been silent for ":                        func(v *fleet.View) bool { return len(v.Boxes) == 0 },
	} {
		if strings.Contains(why, "silent") {
			a.await(t, "without b", is)
		} else if !is(a.View()) {
			continue // a slow machine
		}
		all, err := a.FleetStatus(t.Context())
		if err != nil || all.Inflight != 2 || all.Fleet.Joined || all.Fleet.Problem == "" || len(all.Missing) != 1 || !strings.HasPrefix(missing(all.FleetReport)[0], why) {
			t.Errorf("%+v, %v", all, err)
		}
	}
	none := New(Options{View: func() *fleet.View { return nil }})
	if _, err := none.FleetStatus(t.Context()); err != control.ErrNoFleet { //nolint:errorlint // exactly this one
		t.Error(err)
	}
}

// TestJustJoined: a report of a box that has just joined has the boxes that have yet to announce
// themselves to it.
func TestJustJoined(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	start(t, server.URL, "b", testKey, api{statusPath: control.Status{Inflight: 3}})
	start(t, server.URL, "c", testKey, api{statusPath: control.Status{Inflight: 4}})
	a := start(t, server.URL, "a", testKey, api{statusPath: control.Status{Inflight: 2}})
	if all, err := a.FleetStatus(t.Context()); err != nil || all.Inflight != 9 || len(all.Missing) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestNoAnswer: if no box can answer, that is an error with this box's reason.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	a := start(t, server.URL, "a", testKey, api{})
	a.sees(t)
	if _, err := a.FleetUsage(t.Context(), day, time.Time{}, ""); err == nil || !strings.Contains(err.Error(), "this daemon has no /v1/usage") {
		t.Error(err)
	}
}

// TestCalls: calls are merged by time, with the box that has each, and a limit is that of all.
// An answer of many parts arrives whole.
func TestCalls(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	page := func(box string, minute int) (p control.CallsPage) {
		for i := range 600 {
			p.Calls = append(p.Calls, control.Call{ID: fmt.Sprint(box, i), Time: day.Add(time.Duration(-2*i+minute) * time.Minute), Model: strings.Repeat(box, 500)})
		}
		p.InFlight = []control.Call{{ID: box + " in flight", Time: day.Add(time.Duration(minute) * time.Minute)}}
		return p
	}
	a := start(t, server.URL, "a", testKey, api{callsPath: page("a", 0)})
	start(t, server.URL, "b", testKey, api{callsPath: page("b", 1)})
	a.sees(t, "b")
	all, err := a.FleetCalls(t.Context(), control.CallsQuery{Limit: 1000})
	if err != nil || len(all.Calls) != 1000 || len(all.InFlight) != 2 || all.InFlight[1].Box != "b" || all.Next != "" {
		t.Fatalf("%d calls, %+v, %v", len(all.Calls), all.InFlight, err)
	}
	for i, c := range all.Calls {
		if want := fmt.Sprint([]string{"b", "a"}[i%2], i/2); c.ID != want || c.Box != want[:1] || len(c.Model) != 500 {
			t.Fatalf("call %d is %s of %s, not %s", i, c.ID, c.Box, want)
		}
	}
}

// TestTooLarge: an answer over the limit is named as that, and never cut.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	a := start(t, server.URL, "a", testKey, api{statusPath: control.Status{}})
	start(t, server.URL, "b", testKey, api{statusPath: strings.Repeat(" ", maxAnswer+1)})
	a.sees(t, "b")
	if all, err := a.FleetStatus(t.Context()); err != nil || len(all.Missing) != 1 || !strings.Contains(all.Missing[0].Why, "over 16 MiB") {
		t.Errorf("%+v, %v", all.FleetReport, err)
	}
}

// TestBoxes: each box says which others it knows.
func TestBoxes(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	view := func(own string, others ...string) control.Boxes {
		v := control.Boxes{Boxes: []control.Box{{Box: fleet.Box{Name: own}, This: true}}}
		for _, name := range others {
			v.Boxes = append(v.Boxes, control.Box{Box: fleet.Box{Name: name}})
		}
		return v
	}
	a := start(t, server.URL, "a", testKey, api{boxesPath: view("a", "b", "c")})
	start(t, server.URL, "b", testKey, api{boxesPath: view("b", "a")})
	start(t, server.URL, "c", testKey, api{boxesPath: view("c", "a", "b")})
	a.sees(t, "b", "c")
	all, err := a.FleetBoxes(t.Context())
	if err != nil || len(all.Boxes) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, want := range []string{"a true [b c] []", "b false [a] [c]", "c false [a b] []"} {
		if b := all.Boxes[i]; fmt.Sprintf("%s %t %v %v", b.Name, b.This, b.Knows, b.Unaware) != want {
			t.Errorf("%+v, not %s", b, want)
		}
	}
}

// TestOutsider: an outsider in the NATS account reads neither requests nor answers, gets no
// answer to a request of its own or one that it has seen, and no prompt is in an answer.
func TestOutsider(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	secret := "Tell me a secret"
	status := control.Status{Version: "v9.9", Servers: []control.Server{{Name: "s", LastExit: &control.LastExit{Class: "killed", Tail: []string{secret}}}}}
	a := start(t, server.URL, "a", testKey, api{statusPath: status})
	b := start(t, server.URL, "b", testKey, api{statusPath: status})
	a.sees(t, "b")
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	seen, err := nc.SubscribeSync("llmsup.reports.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	all, err := a.FleetStatus(t.Context())
	if err != nil || len(all.Boxes) != 2 || all.Boxes[1].Status.Servers[0].LastExit.Class != "killed" {
		t.Fatalf("%+v, %v", all, err)
	}
	if raw, _ := json.Marshal(all); strings.Contains(string(raw), secret) {
		t.Errorf("an answer has what a server printed: %s", raw)
	}
	var asked, answered *nats.Msg
	for asked == nil || answered == nil {
		m, err := seen.NextMsg(30 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(m.Data, []byte("v9.9")) || bytes.Contains(m.Data, []byte("status")) {
			t.Errorf("an outsider can read %q", m.Data)
		}
		if m.Subject == requestSubject {
			asked = m
		} else {
			answered = m
		}
	}
	for _, data := range [][]byte{asked.Data, []byte(`{"asker":"x","number":9,"path":"/v1/status"}`), answered.Data} {
		if err := nc.PublishRequest(requestSubject, "llmsup.reports.answers.outsider", data); err != nil {
			t.Fatal(err)
		}
	}
	// b has handled these when it answers the next request, since messages stay in order.
	b.sees(t, "a")
	if all, err := a.FleetStatus(t.Context()); err != nil || len(all.Boxes) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	subjects := map[string]int{}
	for range 5 { // the three of the outsider, one request and one answer
		m, err := seen.NextMsg(30 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		subjects[m.Subject]++
	}
	if subjects[requestSubject] != 4 || len(subjects) != 2 || subjects[answered.Subject] != 0 {
		t.Errorf("the messages were %v", subjects)
	}
}
