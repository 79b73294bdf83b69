package control

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The source has one call in flight, and one that has ended.
func (source) Calls(_ context.Context, q CallsQuery) (CallsPage, error) {
	if q.Model == "broken" {
		return CallsPage{}, errors.New("the disk is full")
	}
	page := CallsPage{InFlight: []Call{{ID: "a:1", Phase: "sent"}}, Calls: []Call{{ID: "b:2", Phase: PhaseEnded, Model: q.Values().Encode()}}, Next: "x.y"}
	return page, nil
}

func (source) Call(_ context.Context, id string) (Call, error) {
	if id != "a:1" {
		return Call{}, fmt.Errorf("%w %q", ErrNoCall, id)
	}
	return Call{ID: id, Attempts: []CallAttempt{{Backend: "qwen", Reason: "lost"}}}, nil
}

func (source) EachCall(context.Context, CallsQuery, func(Call) error) error { return nil }

func (source) FollowCalls(ctx context.Context, q CallsQuery, begin func() error, emit func(CallEvent) error) error {
	if err := begin(); err != nil {
		return err
	}
	for _, event := range []string{CallInFlight, CallBegan, CallEnded} {
		if err := emit(CallEvent{Event: event, Lost: len(event), Call: Call{Model: q.Model}}); err != nil {
			return err
		}
	}
	return nil
}

func (source) CancelCall(id, by string) ([]Call, error) {
	if id == "none" {
		return nil, fmt.Errorf("%w %q in flight", ErrNoCall, id)
	}
	return []Call{{ID: id, Key: by}}, nil
}

func TestCalls(t *testing.T) {
	c, ctx := NewClient(serve(t, NewHandler(source{}, "v1"))), t.Context()
	q := CallsQuery{Since: time.Unix(1, 5).UTC(), Until: time.Unix(9, 0).UTC(), Model: "m&", Key: "k", Backend: "b", Reason: "lost", Status: "5xx", Limit: 7, After: "p.q"}
	page, err := c.Calls(ctx, q)
	if err != nil || len(page.InFlight) != 1 || len(page.Calls) != 1 || page.Next != "x.y" || page.Calls[0].Model != q.Values().Encode() {
		t.Errorf("%+v, %v", page, err)
	}
	if again, err := ParseCallsQuery(q.Values()); err != nil || !reflect.DeepEqual(again, q) {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := c.Calls(ctx, CallsQuery{Model: "broken"}); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Error(err)
	}
	for _, bad := range []CallsQuery{{Limit: 1001}, {Status: "teapot"}, {Status: "9xx"}, {Status: "-3"}} {
		if _, err := c.Calls(ctx, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if call, err := c.Call(ctx, "a:1"); err != nil || call.Attempts[0].Reason != "lost" {
		t.Errorf("%+v, %v", call, err)
	}
	if _, err := c.Call(ctx, "a/b"); !errors.Is(err, ErrNoCall) || !strings.Contains(err.Error(), `there is no call "a/b"`) {
		t.Error(err)
	}
	var events []string
	if err := c.FollowCalls(ctx, CallsQuery{Model: "m"}, func(e CallEvent) error {
		events = append(events, fmt.Sprint(e.Event, e.Lost, e.Call.Model))
		return nil
	}); err != nil || strings.Join(events, " ") != "in_flight9m began5m ended5m" {
		t.Errorf("%v, %v", events, err)
	}
	if calls, err := c.CancelCall(ctx, "a:1"); err != nil || len(calls) != 1 || calls[0].ID != "a:1" || !strings.HasPrefix(calls[0].Key, "user ") {
		t.Errorf("%+v, %v", calls, err)
	}
	if _, err := c.CancelCall(ctx, "none"); err == nil || !strings.Contains(err.Error(), `there is no call "none" in flight`) {
		t.Error(err)
	}
}

func TestSelects(t *testing.T) {
	at := time.Unix(100, 0)
	call := Call{Time: at, Model: "m", Key: "k", Backend: "b", Reason: "lost", Status: 503}
	for name, tc := range map[string]struct {
		q    CallsQuery
		want bool
	}{
		"all":            {CallsQuery{}, true},
		"since":          {CallsQuery{Since: at}, true},
		"since later":    {CallsQuery{Since: at.Add(1)}, false},
		"until":          {CallsQuery{Until: at}, false},
		"until later":    {CallsQuery{Until: at.Add(1)}, true},
		"model":          {CallsQuery{Model: "m"}, true},
		"another model":  {CallsQuery{Model: "n"}, false},
		"key":            {CallsQuery{Key: "x"}, false},
		"backend":        {CallsQuery{Backend: "x"}, false},
		"reason":         {CallsQuery{Reason: "x"}, false},
		"status":         {CallsQuery{Status: "503"}, true},
		"class":          {CallsQuery{Status: "5xx"}, true},
		"another status": {CallsQuery{Status: "504"}, false},
		"another class":  {CallsQuery{Status: "2xx"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.q.Selects(call); got != tc.want {
				t.Error(got)
			}
		})
	}
}
