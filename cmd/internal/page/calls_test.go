package page

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// theirs is a call of a key that is not the viewer's, and whose model's name is hostile.
func theirs() control.Call {
	cost := control.USD(250_000_000_000)
	return control.Call{ID: "1:a", Key: "ops", Model: `=cmd|"<script>`, Status: 200, Cost: &cost, MS: 7}
}

func (d *fakeDaemon) ask(what string, query any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commands = append(d.commands, fmt.Sprintf("%s %+v", what, query))
	return d.refusal
}

func (d *fakeDaemon) Calls(_ context.Context, q control.CallsQuery) (control.CallsPage, error) {
	return control.CallsPage{InFlight: []control.Call{{ID: "running"}}, Calls: []control.Call{theirs()}, Next: "more"}, d.ask("calls", q.Values().Encode())
}

func (d *fakeDaemon) Call(_ context.Context, id string) (control.Call, error) {
	if id != "1:a" {
		return control.Call{}, fmt.Errorf("%w %s", control.ErrNoCall, id)
	}
	return theirs(), d.ask("call", id)
}

func (d *fakeDaemon) EachCall(_ context.Context, q control.CallsQuery, emit func(control.Call) error) error {
	if err := d.ask("each", q.Values().Encode()); err != nil {
		return err
	}
	if q.Model == "none" {
		return nil
	}
	if q.Model == "broken" {
		for range 1000 { // more than is buffered
			if err := emit(theirs()); err != nil {
				return err
			}
		}
		return errors.New("the ledger is closed")
	}
	return errors.Join(emit(theirs()), emit(theirs()))
}

func (d *fakeDaemon) FollowCalls(context.Context, control.CallsQuery, func() error, func(control.CallEvent) error) error {
	return errors.New("the page does not use it")
}

func (d *fakeDaemon) CancelCall(id, by string) ([]control.Call, error) {
	return []control.Call{theirs()}, d.ask("cancel", id+" by "+by)
}

func (d *fakeDaemon) UsageOfKey(_ context.Context, key string, from, to time.Time, by string) (control.Usage, error) {
	return control.Usage{}, d.ask("usage", fmt.Sprintf("key=%s %s %s by=%s", key, from.Format(time.DateOnly), to.Format(time.DateOnly), by))
}

// TestCallsOfKeys: the server sets the key of a viewer who is no operator, whatever the
// query says.
func TestCallsOfKeys(t *testing.T) {
	s := newSite(t, testKeys()...)
	operator, other := s.signIn(operatorKey), s.signIn(otherKey)
	const period = "since=2026-11-01T00:00:00Z&until=2026-11-02T00:00:00Z"
	for name, tc := range map[string]struct {
		path, cookie string
		status       int
		asked        string // of the daemon; "" = nothing
	}{
		"all":                     {"calls?limit=7&after=x&status=5xx", operator, 200, "calls after=x&limit=7&status=5xx"},
		"one key's":               {"calls?key=app", operator, 200, "calls key=app&limit=20"},
		"the own":                 {"calls", other, 200, "calls key=app&limit=20"},
		"another key's":           {"calls?key=ops&key=ops", other, 200, "calls key=app&limit=20"},
		"signed out":              {"calls", "", 401, ""},
		"a wrong query":           {"calls?limit=0", operator, 400, ""},
		"a wrong status":          {"calls?status=x", operator, 400, ""},
		"one call":                {"calls/1:a", operator, 200, "call 1:a"},
		"one call, escaped":       {"calls/1%3Aa", operator, 200, "call 1:a"},
		"no such call":            {"calls/2:b", operator, 404, ""},
		"another key's call":      {"calls/1:a", other, 404, "call 1:a"},
		"one call, signed out":    {"calls/1:a", "", 401, ""},
		"CSV":                     {"calls.csv?model=m", operator, 200, "each limit=20&model=m"},
		"CSV of another key":      {"calls.csv?key=ops", other, 200, "each key=app&limit=20"},
		"CSV, signed out":         {"calls.csv", "", 401, ""},
		"sums":                    {"usage?by=day&" + period, operator, 200, "usage key= 2026-11-01 2026-11-02 by=day"},
		"sums of the own":         {"usage?by=key&key=ops", other, 200, "usage key=app 0001-01-01 0001-01-01 by=key"},
		"sums by nonsense":        {"usage?by=nonsense", operator, 400, ""},
		"sums since nonsense":     {"usage?since=1h", operator, 400, ""},
		"sums, signed out":        {"usage", "", 401, ""},
		"session of another name": {"usage", "other=" + strings.TrimPrefix(operator, cookieName+"="), 401, ""},
	} {
		before := len(s.daemon.given())
		resp := s.request("GET", "/ui/api/"+tc.path, "", "Cookie", tc.cookie)
		raw, err := io.ReadAll(resp.Body)
		asked := strings.Join(s.daemon.given()[before:], "; ")
		if err != nil || resp.StatusCode != tc.status || asked != tc.asked {
			t.Errorf("%s: %v %s, asked %q: %s", name, err, resp.Status, asked, raw)
		}
		if strings.Contains(string(raw), "<script") && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/csv") {
			t.Errorf("%s: %s", name, raw)
		}
		if strings.Contains(string(raw), `"running"`) || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %s", name, resp.Header.Get("Cache-Control"), raw)
		}
	}
}

// TestCallsWithoutKeys: without keys, another machine reads no calls.
func TestCallsWithoutKeys(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"calls", "calls.csv", "usage", "calls/1:a"} {
		if status, _ := code(t, s.request("GET", "/ui/api/"+path, "")); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
		want := 403
		if path == "calls/1:a" {
			want = 404
		}
		if status, _ := code(t, s.request("GET", "/ui/api/"+path, "", "X-Forwarded-For", "192.0.2.7")); status != want {
			t.Errorf("%s by a proxy: %d", path, status)
		}
	}
}

func TestCSV(t *testing.T) {
	s := newSite(t)
	resp := s.request("GET", "/ui/api/calls.csv", "")
	rows, err := csv.NewReader(resp.Body).ReadAll()
	if err != nil || len(rows) != 3 || len(rows[0]) != len(csvColumns) {
		t.Fatalf("%v %q", err, rows)
	}
	cells := map[string]string{}
	for i, name := range rows[0] {
		cells[name] = rows[1][i]
	}
	for name, want := range map[string]string{"id": "1:a", "model": `'=cmd|"<script>`, "cost_usd": "0.25", "saved_usd": "", "first_ms": "", "ms": "7", "status": "200"} {
		if cells[name] != want {
			t.Errorf("%s: %q, want %q", name, cells[name], want)
		}
	}
	if got := resp.Header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/csv") {
		t.Errorf("%s", got)
	}
	if rows, err := csv.NewReader(s.request("GET", "/ui/api/calls.csv?model=none", "").Body).ReadAll(); err != nil || len(rows) != 1 {
		t.Errorf("no calls: %v %q", err, rows)
	}
	if raw, err := io.ReadAll(s.request("GET", "/ui/api/calls.csv?model=broken", "").Body); err == nil {
		t.Errorf("a part looks like the whole: %s", raw)
	}
	s.daemon.refusal = control.ErrAfter
	for _, path := range []string{"calls?after=garbage", "calls.csv?after=garbage"} {
		if status, got := code(t, s.request("GET", "/ui/api/"+path, "")); status != 400 || got != "invalid_query" {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	s.daemon.refusal = errors.New("the ledger is disabled")
	if status, got := code(t, s.request("GET", "/ui/api/calls.csv", "")); status != 503 || got != "ledger_unavailable" {
		t.Errorf("%d %s", status, got)
	}
}
