package calls

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/accounting"
	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/ledger"
)

// cancelCounter counts how often its call is cancelled.
type cancelCounter struct{ n int }

func (c *cancelCounter) CancelCall() { c.n++ }

// newLister returns a Lister without a ledger, with a call of each key in flight, numbered from 1.
func newLister(t *testing.T, keys ...string) (l *Lister, registry *inflight.Registry, calls []*inflight.Call, stop chan struct{}) {
	t.Helper()
	a := accounting.Open(&config.Config{StateDir: t.TempDir()}, zerolog.Nop())
	t.Cleanup(func() { a.Close(nil) })
	registry, stop = new(inflight.Registry), make(chan struct{})
	for i, key := range keys {
		c := &inflight.Call{Info: inflight.Info{Number: int64(i + 1), Began: time.Now(), Request: "request-" + key, Key: key, Model: "local"}}
		registry.Add(c, &cancelCounter{})
		calls = append(calls, c)
	}
	return NewLister(registry, a, zerolog.Nop(), stop), registry, calls, stop
}

// end ends a call as the router does.
func end(r *inflight.Registry, c *inflight.Call) {
	r.Remove(c, &ledger.Row{Number: c.Number, Time: c.Began, Request: c.Request, Dimensions: ledger.Dimensions{Key: c.Key, Model: c.Model, Status: 200}})
}

func requests(calls []control.Call) (list []string) {
	for _, c := range calls {
		list = append(list, c.Request)
	}
	return list
}

// TestCalls: without a ledger the calls that have ended are the last ones, which the list says.
// A query selects both kinds, and a limit bounds those that have ended.
func TestCalls(t *testing.T) {
	l, registry, calls, _ := newLister(t, "a", "b", "a2", "b2")
	end(registry, calls[0])
	end(registry, calls[1])
	for name, c := range map[string]struct {
		query           control.CallsQuery
		inFlight, ended []string
	}{
		"all":       {control.CallsQuery{Limit: 10}, []string{"request-a2", "request-b2"}, []string{"request-b", "request-a"}},
		"a limit":   {control.CallsQuery{Limit: 1}, []string{"request-a2", "request-b2"}, []string{"request-b"}},
		"a key":     {control.CallsQuery{Limit: 10, Key: "b"}, nil, []string{"request-b"}},
		"a status":  {control.CallsQuery{Limit: 10, Status: "4xx"}, nil, nil},
		"next page": {control.CallsQuery{Limit: 10, After: "x"}, nil, []string{"request-b", "request-a"}},
	} {
		page, err := l.Calls(t.Context(), c.query)
		got := requests(page.InFlight)
		slices.Sort(got) // the order of calls in flight is that of the registry
		if err != nil || page.Incomplete == "" || !slices.Equal(got, c.inFlight) || !slices.Equal(requests(page.Calls), c.ended) {
			t.Errorf("%s: in flight %q, ended %q, %q, %v", name, got, requests(page.Calls), page.Incomplete, err)
		}
	}
}

// TestCall: a call is found in flight, after its end, and not at all if its id is unknown.
func TestCall(t *testing.T) {
	l, registry, calls, _ := newLister(t, "a", "b")
	end(registry, calls[1])
	for id, want := range map[string]string{calls[0].ID().String(): "request-a", calls[1].ID().String(): "request-b"} {
		if c, err := l.Call(t.Context(), id); err != nil || c.Request != want {
			t.Errorf("%s: %+v, %v", id, c, err)
		}
	}
	if _, err := l.Call(t.Context(), "x"); !errors.Is(err, control.ErrNoCall) {
		t.Error(err)
	}
}

// TestFollowCalls: a follower receives the calls in flight once, then what begins and ends, and
// nothing of another key. It ends with llmsup.
func TestFollowCalls(t *testing.T) {
	l, registry, calls, stop := newLister(t, "a", "b")
	var got []string
	begin := func() error {
		late := &inflight.Call{Info: inflight.Info{Number: 9, Began: time.Now(), Request: "late", Key: "a"}}
		registry.Add(late, &cancelCounter{}) // between the begin of following and the list
		end(registry, late)
		end(registry, calls[0])
		end(registry, calls[1])
		return nil
	}
	err := l.FollowCalls(t.Context(), control.CallsQuery{Key: "a"}, begin, func(e control.CallEvent) error {
		if got = append(got, e.Event+" "+e.Call.Request); len(got) == 3 {
			close(stop)
		}
		return nil
	})
	want := []string{control.CallBegan + " late", control.CallEnded + " late", control.CallEnded + " request-a"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestCancelCall: a call is cancelled once, by its id or its X-Request-Id.
func TestCancelCall(t *testing.T) {
	l, registry, calls, _ := newLister(t, "a", "b")
	for _, id := range []string{calls[0].ID().String(), "request-b"} {
		if cancelled, err := l.CancelCall(id, "ops"); err != nil || len(cancelled) != 1 {
			t.Errorf("%s: %+v, %v", id, cancelled, err)
		}
	}
	if _, err := l.CancelCall("request-c", "ops"); !errors.Is(err, control.ErrNoCall) {
		t.Error(err)
	}
	registry.Add(&inflight.Call{Info: inflight.Info{Number: 9, Request: "hop", FromBox: "gpu1"}}, &cancelCounter{})
	if _, err := l.CancelCall("hop", "ops"); !errors.Is(err, control.ErrNoCall) || !strings.Contains(err.Error(), "the box gpu1 has sent it; cancel it there") {
		t.Errorf("a call of another box: %v", err)
	}
}
