package report

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// callAPI is the control API of a box with calls, by their ids. It notes what was cancelled.
type callAPI struct {
	calls map[string]control.Call

	mu        sync.Mutex
	cancelled []string
}

func (a *callAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, _ := strings.CutPrefix(r.URL.Path, callPath)
	var which control.CancelRequest
	if r.Method == http.MethodPost && r.URL.Path == cancelPath && json.NewDecoder(r.Body).Decode(&which) == nil {
		id = which.ID
	}
	call, has := a.calls[id]
	switch {
	case !has:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error": "there is no call", "no_call": true}`))
	case r.Method == http.MethodPost:
		a.cancelled = append(a.cancelled, id)
		_ = json.NewEncoder(w).Encode(control.Cancelled{Calls: []control.Call{call}})
	default:
		_ = json.NewEncoder(w).Encode(call)
	}
}

func (a *callAPI) cancels() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.cancelled)
}

// TestFindCall: a call is found, and cancelled, on the box that has it; boxes that do not have it
// have answered.
func TestFindCall(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	theirs := &callAPI{calls: map[string]control.Call{"b:1": {ID: "b:1", Model: "m"}}}
	a := start(t, server.URL, "a", testKey, &callAPI{})
	start(t, server.URL, "b", testKey, theirs)
	start(t, server.URL, "old", testKey, api{})
	a.sees(t, "b", "old")
	page, err := a.FleetCall(t.Context(), "b:1")
	if err != nil || len(page.Calls) != 1 || page.Calls[0].Box != "b" || page.Calls[0].Model != "m" || !slices.Equal(page.Answered, []string{"a", "b"}) {
		t.Errorf("%+v, %v", page, err)
	}
	if page, err := a.FleetCall(t.Context(), "b:2"); err != nil || len(page.Calls) != 0 || len(page.Answered) != 2 || len(page.Missing) != 1 {
		t.Errorf("an unknown call: %+v, %v", page, err)
	}
	if all, err := a.FleetCancelCall(t.Context(), "b:2", "ann"); err != nil || len(all.Calls) != 0 || theirs.cancels() != 0 {
		t.Errorf("an unknown call was cancelled: %+v, %v", all, err)
	}
	all, err := a.FleetCancelCall(t.Context(), "b:1", "ann")
	if err != nil || len(all.Calls) != 1 || all.Calls[0].Box != "b" || theirs.cancels() != 1 || len(all.Missing) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestCommandAgain: an outsider who has seen a command, and sends it again, cancels nothing: not at
// the same process, and not at another one that has started since.
func TestCommandAgain(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	theirs := &callAPI{calls: map[string]control.Call{"b:1": {ID: "b:1"}}}
	a, b := start(t, server.URL, "a", testKey, &callAPI{}), start(t, server.URL, "b", testKey, theirs)
	a.sees(t, "b")
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	seen, err := nc.SubscribeSync(requestSubject)
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	if all, err := a.FleetCancelCall(t.Context(), "b:1", "ann"); err != nil || len(all.Calls) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	command, err := seen.NextMsg(30 * time.Second)
	if err != nil || strings.Contains(string(command.Data), "b:1") {
		t.Fatalf("%v, %v", command, err)
	}
	// again sends the command to b, which has handled it when it has stopped: messages stay in order.
	again := func(when string) {
		t.Helper()
		if err := nc.Publish(requestSubject, command.Data); err != nil || nc.Flush() != nil {
			t.Fatal(err)
		}
		if page, err := a.FleetCall(t.Context(), "b:1"); err != nil || len(page.Calls) != 1 {
			t.Errorf("%s: %+v, %v", when, page, err)
		}
		b.stop()
		a.sees(t)
		if n := theirs.cancels(); n != 1 {
			t.Errorf("%s: %d calls were cancelled", when, n)
		}
	}
	again("the same process")
	b = start(t, server.URL, "b", testKey, theirs)
	a.sees(t, "b")
	b.sees(t, "a")
	again("another process")
}

// TestAllowed: another box can read reports, and cancel calls, and nothing else.
func TestAllowed(t *testing.T) {
	command := json.RawMessage(`{}`)
	for path, tc := range map[string]struct{ read, change bool }{
		"/v1/status":       {true, false},
		"/v1/calls":        {true, false},
		"/v1/calls/b:1":    {true, false},
		"/v1/calls/cancel": {false, true},
		"/v1/logs":         {false, false},
		"/v1/drain":        {false, false},
		"/v1/fleet/push":   {false, false},
	} {
		if got := allowed(apiCall{Path: path}, path); got != tc.read {
			t.Errorf("reading %s: %t", path, got)
		}
		if got := allowed(apiCall{Path: path, Body: command}, path); got != tc.change {
			t.Errorf("a command to %s: %t", path, got)
		}
	}
}
