package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// The source's fleet lacks a box, and has no status.
func (source) FleetUsage(_ context.Context, from, _ time.Time, by string) (Usage, error) {
	return Usage{
		From: from, Groups: []UsageGroup{{Name: by}},
		FleetReport: FleetReport{Fleet: &Fleet{Box: "a"}, Answered: []string{"a"}, Missing: []MissingBox{{"b", "has not answered within 2s"}}},
	}, nil
}

func (source) FleetCalls(_ context.Context, q CallsQuery) (CallsPage, error) {
	return CallsPage{Calls: []Call{{ID: "1", Key: q.Key, Box: "b"}}}, nil
}

func (source) FleetStatus(context.Context) (FleetStatus, error) { return FleetStatus{}, ErrNoFleet }

func (source) FleetBoxes(context.Context) (FleetBoxes, error) {
	return FleetBoxes{Boxes: []AskedBox{{AnswerMS: 3, Knows: []string{"b"}}}}, nil
}

func (source) FleetCall(_ context.Context, id string) (CallsPage, error) {
	page := CallsPage{FleetReport: FleetReport{Answered: []string{"a", "b"}, Missing: []MissingBox{{"c", "has not answered within 2s"}}}}
	if id != "none" {
		page.Calls = []Call{{ID: id, Box: "b"}}
	}
	return page, nil
}

func (s source) FleetCancelCall(ctx context.Context, id, by string) (Cancelled, error) {
	if id == "alone" {
		return Cancelled{}, ErrNoFleet
	}
	page, err := s.FleetCall(ctx, id)
	for i := range page.Calls {
		page.Calls[i].Key = by
	}
	return Cancelled{page.Calls, page.FleetReport}, err
}

func TestFleetReports(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	u, err := c.FleetUsage(t.Context(), november, time.Time{}, "box")
	if err != nil || !u.From.Equal(november) || u.Groups[0].Name != "box" || u.Fleet.Box != "a" || len(u.Answered) != 1 || u.Missing[0].Why != "has not answered within 2s" {
		t.Errorf("%+v, %v", u, err)
	}
	if p, err := c.FleetCalls(t.Context(), CallsQuery{Key: "k"}); err != nil || p.Calls[0].Key != "k" || p.Calls[0].Box != "b" {
		t.Errorf("%+v, %v", p, err)
	}
	if b, err := c.FleetBoxes(t.Context()); err != nil || b.Boxes[0].AnswerMS != 3 || b.Boxes[0].Knows[0] != "b" {
		t.Errorf("%+v, %v", b, err)
	}
	if call, err := c.FleetCall(t.Context(), "b:1/2"); err != nil || call.ID != "b:1/2" || call.Box != "b" {
		t.Errorf("%+v, %v", call, err)
	}
	if all, err := c.FleetCancelCall(t.Context(), "b:1"); err != nil || all.Calls[0].Box != "b" || !strings.HasPrefix(all.Calls[0].Key, "user ") || all.Missing[0].Box != "c" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := c.FleetCancelCall(t.Context(), "alone"); !errors.Is(err, ErrNoFleet) {
		t.Error(err)
	}
	cancelNone := func() error { _, err := c.FleetCancelCall(t.Context(), "none"); return err }
	if err := cancelNone(); !errors.Is(err, ErrNoCall) {
		t.Error(err)
	}
	alone := onNoBox("x", "", FleetReport{Fleet: &Fleet{Problem: "NATS is down"}, Answered: []string{"a"}})
	if !errors.Is(alone, ErrNoCall) || !strings.HasSuffix(alone.Error(), "on a; other boxes cannot be asked, since this one is not in its fleet: NATS is down") {
		t.Error(alone)
	}
	for name, tc := range map[string]struct {
		ask  func() error
		want string
	}{
		"on no box":    {func() error { _, err := c.FleetCall(t.Context(), "none"); return err }, `there is no call "none" on a, b; it may be on another box: c has not answered within 2s`},
		"not running":  {cancelNone, `there is no call "none" in flight on a, b; it may be`},
		"no fleet":     {func() error { _, err := c.FleetStatus(t.Context()); return err }, "this box is in no fleet"},
		"a wrong time": {func() error { _, err := get[Usage](t.Context(), c, "/v1/fleet/usage?since=x"); return err }, "since has to be a time"},
		"no group":     {func() error { _, err := c.FleetUsage(t.Context(), november, time.Time{}, "shoe"); return err }, "day, reason, route, box"},
		"a next page":  {func() error { _, err := c.FleetCalls(t.Context(), CallsQuery{After: "x"}); return err }, "have one page"},
	} {
		if err := tc.ask(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
