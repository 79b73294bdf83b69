package inflight

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

// cancelCounter counts how often its call is cancelled.
type cancelCounter struct{ n int }

func (c *cancelCounter) CancelCall() { c.n++ }

func newCall(number int64, request string) *Call {
	return &Call{Info: Info{Number: number, Began: time.UnixMilli(1_800_000_000_000), Request: request, Path: "/v1/chat/completions", Model: "local"}}
}

// numbers returns the numbers of calls, in their order.
func numbers(calls []Snapshot) (list []int64) {
	for _, c := range calls {
		list = append(list, c.Number)
	}
	return list
}

func TestRegistry(t *testing.T) {
	var r Registry
	var calls []*Call
	for i := range int64(4) {
		calls = append(calls, newCall(i, fmt.Sprint("r", i)))
		r.Add(calls[i], &cancelCounter{})
	}
	for _, step := range []struct {
		remove int
		want   []int64
	}{{1, []int64{0, 2, 3}}, {0, []int64{2, 3}}, {3, []int64{2}}, {2, nil}} {
		c := calls[step.remove]
		r.Remove(c, &ledger.Row{Number: c.Number})
		if got := numbers(r.Snapshot()); !slices.Equal(got, step.want) || r.Len() != len(step.want) {
			t.Errorf("without %d: %v (%d), want %v", step.remove, got, r.Len(), step.want)
		}
	}
	var ended []int64
	for _, row := range r.Ended(3) {
		ended = append(ended, row.Number)
	}
	if !slices.Equal(ended, []int64{2, 3, 0}) {
		t.Errorf("ended: %v", ended)
	}
	for i := range int64(2 * keptEnded) {
		c := newCall(i, "")
		r.Add(c, &cancelCounter{})
		r.Remove(c, &ledger.Row{Number: i})
	}
	if all := r.Ended(10 * keptEnded); len(all) != keptEnded || all[0].Number != 2*keptEnded-1 || all[keptEnded-1].Number != keptEnded {
		t.Errorf("%d have ended, from %d to %d", len(all), all[0].Number, all[len(all)-1].Number)
	}
}

// TestCancel: a call is cancelled by its own id, or all calls with an X-Request-Id are. Calls
// that have ended are not.
func TestCancel(t *testing.T) {
	for name, tc := range map[string]struct {
		id   func([]*Call) string
		want []int64
	}{
		"own id":            {func(c []*Call) string { return c[1].ID().String() }, []int64{1}},
		"request id":        {func([]*Call) string { return "a" }, []int64{0, 2}},
		"an unknown id":     {func([]*Call) string { return "c" }, nil},
		"an unknown own id": {func([]*Call) string { return newCall(77, "").ID().String() }, nil},
		"it has ended":      {func(c []*Call) string { return c[3].ID().String() }, nil},
		"no id":             {func([]*Call) string { return "" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var r Registry
			var calls []*Call
			var counters []*cancelCounter
			for i, request := range []string{"a", "b", "a", "d"} {
				calls, counters = append(calls, newCall(int64(i), request)), append(counters, &cancelCounter{})
				r.Add(calls[i], counters[i])
			}
			r.Remove(calls[3], &ledger.Row{})
			cancelled, _ := r.Cancel(tc.id(calls))
			if got := numbers(cancelled); !slices.Equal(got, tc.want) {
				t.Errorf("%v were cancelled, want %v", got, tc.want)
			}
			for i, c := range counters {
				if cancelled := slices.Contains(tc.want, int64(i)); (c.n == 1) != cancelled {
					t.Errorf("call %d was cancelled %d times", i, c.n)
				}
			}
		})
	}
}

// TestSnapshot: what is known of a call at each of its stages.
func TestSnapshot(t *testing.T) {
	cost := usd.Amount(5)
	c := newCall(1, "r")
	want := func(phase Phase, backend string, reason models.Reason, place int, known bool, attempts int) {
		t.Helper()
		now := c.Snapshot()
		if now.Phase != phase || now.Backend != backend || now.Reason != reason || now.Place != place || (now.Cost != nil) != known || len(now.Attempts) != attempts {
			t.Errorf("%+v", now)
		}
	}
	want(Routing, "", "", 0, true, 0)
	c.Try("qwen", "m", false, "")
	place := 2
	c.Wait(true, func() int { return place })
	want(WaitingForModel, "qwen", "", 2, true, 0)
	place = 1
	c.Wait(false, func() int { return place })
	want(WaitingForSlot, "qwen", "", 1, true, 0)
	c.Send()
	want(Sent, "qwen", "", 0, true, 0)
	c.Fail("lost", 0, new(usd.Amount), "lost the connection")
	want(Routing, "qwen", "", 0, true, 1)
	c.Try("cloud", "m", true, "lost")
	c.Send()
	want(Sent, "cloud", "lost", 0, false, 1)
	c.Answer("lost", time.Second)
	want(Answering, "cloud", "lost", 0, false, 1)
	attempts := c.End(200, &cost, "")
	want(Answering, "cloud", "lost", 0, true, 2)
	if len(attempts) != 2 || attempts[0].Reason != "lost" || attempts[1].Status != 200 || *attempts[1].Cost != cost || *c.Snapshot().Cost != cost {
		t.Errorf("%+v", attempts)
	}
	if again := c.End(200, &cost, ""); len(again) != 2 {
		t.Errorf("%+v", again)
	}
	only := newCall(2, "")
	only.Try("qwen", "m", false, "")
	if attempts := only.End(200, &cost, ""); attempts != nil {
		t.Errorf("%+v", attempts)
	}
}

// TestFollow: a follower receives the begin and the end of each call, and is told how many
// events it was too slow for.
func TestFollow(t *testing.T) {
	var r Registry
	f := r.Follow()
	c := newCall(1, "r")
	r.Add(c, &cancelCounter{})
	r.Remove(c, &ledger.Row{Number: 1, Request: "r"})
	if e := <-f.Events; e.Ended != nil || e.Call.Request != "r" || e.Lost != 0 {
		t.Errorf("%+v", e)
	}
	if e := <-f.Events; e.Ended == nil || e.Ended.Request != "r" {
		t.Errorf("%+v", e)
	}
	for range followerBuffer/2 + 5 {
		r.Add(c, &cancelCounter{})
		r.Remove(c, &ledger.Row{})
	}
	for range followerBuffer {
		if e := <-f.Events; e.Lost != 0 {
			t.Errorf("lost %d", e.Lost)
		}
	}
	r.Add(c, &cancelCounter{})
	if e := <-f.Events; e.Lost != 10 || e.Ended != nil {
		t.Errorf("%+v", e)
	}
	f.Close()
	r.Remove(c, &ledger.Row{})
	select {
	case e := <-f.Events:
		t.Errorf("after Close: %+v", e)
	default:
	}
}

// TestConcurrentCalls: calls come and go while readers list, follow and cancel them.
func TestConcurrentCalls(t *testing.T) {
	var r Registry
	var calls, readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		f := r.Follow()
		defer f.Close()
		for {
			select {
			case <-stop:
				return
			case <-f.Events:
			}
			r.Snapshot()
			r.Ended(10)
			r.Cancel("r3")
		}
	})
	for i := range 4 {
		calls.Go(func() {
			for n := range int64(500) {
				c := newCall(n, fmt.Sprint("r", i))
				r.Add(c, &cancelCounter{})
				c.Try("qwen", "m", false, "")
				c.Send()
				c.Events.Add(1)
				c.Answer("", time.Second)
				c.End(200, nil, "")
				r.Remove(c, &ledger.Row{})
			}
		})
	}
	calls.Wait()
	close(stop)
	readers.Wait()
	if r.Len() != 0 {
		t.Errorf("%d calls are left", r.Len())
	}
}

// BenchmarkCall is what a call pays for being listed.
func BenchmarkCall(b *testing.B) {
	var r Registry
	canceler, row := &cancelCounter{}, &ledger.Row{}
	for range 100 { // other calls in flight
		r.Add(newCall(0, ""), canceler)
	}
	began := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		c := &Call{Info: Info{Began: began}}
		r.Add(c, canceler)
		c.Try("qwen", "m", false, "")
		c.Send()
		c.Answer("", time.Second)
		c.End(200, nil, "")
		r.Remove(c, row)
	}
}

// BenchmarkSnapshot lists a thousand calls.
func BenchmarkSnapshot(b *testing.B) {
	var r Registry
	for i := range int64(1000) {
		r.Add(newCall(i, ""), &cancelCounter{})
	}
	for b.Loop() {
		r.Snapshot()
	}
}
