package backend

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
)

// settableLocal is a Local whose state a test sets.
type settableLocal struct {
	mu      sync.Mutex
	state   LocalState
	changed chan struct{} // the state's Changed
}

func (l *settableLocal) State() LocalState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (*settableLocal) BusySlots(context.Context) (int, error) { return 0, nil }
func (*settableLocal) AddDemand(bool)                         {}
func (*settableLocal) Engine() *models.Capabilities           { return &models.Capabilities{} }

// becomes changes the state, and wakes those who wait for a change.
func (l *settableLocal) becomes(s LocalState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.changed
	l.changed = make(chan struct{})
	s.Changed = l.changed
	l.state = s
	if old != nil {
		close(old)
	}
}

// TestKeepAlive: a call is told first after 10 s of waiting for its model, and then every
// 15 s. The time in which it waits for a slot does not count.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := &settableLocal{}
		local.becomes(LocalState{Alive: true, Slots: 1})
		b := NewServer("qwen", local, nil)
		first, failed := b.Admit(t.Context(), &Attempt{Request: &request.Request{}, Timeout: time.Hour})
		if failed != nil {
			t.Fatal(failed.Detail)
		}
		began := time.Now()
		var told []time.Duration
		a := &Attempt{Request: &request.Request{}, Timeout: time.Hour, KeepAlive: KeepAlive{
			After: 10 * time.Second,
			Notify: func(queue int) {
				told = append(told, time.Since(began))
				if queue != 1 {
					t.Errorf("place %d", queue)
				}
			},
		}}
		admitted := make(chan *Lease)
		go func() {
			lease, _ := b.Admit(t.Context(), a)
			admitted <- lease
		}()
		time.Sleep(60 * time.Second) // it waits for a slot
		local.becomes(LocalState{Reason: Restarting, Returning: true})
		time.Sleep(30 * time.Second) // until 90 s
		local.becomes(LocalState{Alive: true, Slots: 1})
		time.Sleep(60 * time.Second) // for a slot again, until 150 s
		local.becomes(LocalState{Reason: Unloaded, Returning: true})
		time.Sleep(5 * time.Second)
		local.becomes(LocalState{Reason: Loading, Returning: true}) // the same wait
		time.Sleep(25 * time.Second)
		local.becomes(LocalState{Alive: true, Slots: 1})
		first.Release(Completed)
		lease := <-admitted
		lease.Release(Completed)
		var want []time.Duration
		for _, s := range []int{70, 85, 160, 175} {
			want = append(want, time.Duration(s)*time.Second)
		}
		if !slices.Equal(told, want) {
			t.Errorf("told at %v, want %v", told, want)
		}
		if wait := (Wait{Place: 1, Time: 3 * time.Minute, ForModel: time.Minute}); a.Wait != wait {
			t.Errorf("it waited %+v, want %+v", a.Wait, wait)
		}
	})
}

// TestExpectedWaitOfRefusedCall: a box says for how long a call would wait by its queue, also before
// it knows how long calls take.
func TestExpectedWaitOfRefusedCall(t *testing.T) {
	local := &settableLocal{}
	local.becomes(LocalState{Alive: true, Slots: 2})
	b := NewServer("qwen", local, nil)
	ask := &Attempt{Request: &request.Request{}, Timeout: time.Hour, MaxWait: pick.AtMost(0), Alternative: Alternative{Exists: true, On: func(Reason) bool { return true }}}
	for range 2 {
		if _, failed := b.Admit(t.Context(), ask); failed != nil {
			t.Fatal(failed.Detail)
		}
	}
	for waiting := 1; waiting < 5; waiting++ {
		_, failed := b.Admit(t.Context(), ask)
		if want := pick.AssumedService * time.Duration(waiting) / 2; failed == nil || !failed.MayWait || failed.ExpectedWait != want || b.ExpectedWait("/v1/chat/completions") != want {
			t.Errorf("%d calls wait: %+v, want %s", waiting-1, failed, want)
		}
		b.queue.enqueue(1, false, 0)
	}
}

// TestMaxWait: a call waits for a slot for as long as it may, and then moves on, also if the estimate was
// shorter. The time in which the model is loaded does not count.
func TestMaxWait(t *testing.T) {
	const limit = 3 * time.Second
	for name, tc := range map[string]struct {
		service time.Duration // mean of the calls so far
		loads   time.Duration
		limit   pick.MaxWait
		moves   bool
		waited  time.Duration
		place   bool // it was in the queue
	}{
		"its estimate is too short":       {time.Second, 0, pick.AtMost(limit), true, limit, true},
		"its estimate is too long":        {time.Minute, 0, pick.AtMost(limit), true, 0, false},
		"nothing is known yet":            {0, 0, pick.AtMost(limit), true, 0, false},
		"the model is loaded first":       {time.Second, 20 * time.Second, pick.AtMost(limit), true, 20*time.Second + limit, true},
		"no limit":                        {time.Second, 0, pick.MaxWait{}, true, time.Hour, true},
		"the call has no other box to go": {time.Second, 0, pick.AtMost(limit), false, time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local := &settableLocal{}
				local.becomes(LocalState{Alive: true, Slots: 1})
				b := NewServer("qwen", local, nil)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				lease, failed := b.Admit(ctx, &Attempt{Request: &request.Request{}, Timeout: time.Hour})
				if failed != nil {
					t.Fatal(failed.Detail)
				}
				defer lease.Release(Errored)
				if tc.service > 0 {
					b.Served(tc.service)
				}
				if tc.loads > 0 {
					local.becomes(LocalState{Reason: Loading, Returning: true, Slots: 1})
					time.AfterFunc(tc.loads, func() { local.becomes(LocalState{Alive: true, Slots: 1}) })
				}
				began := time.Now()
				a := &Attempt{Request: &request.Request{}, Timeout: time.Hour, MaxWait: tc.limit, Alternative: Alternative{
					Exists: tc.moves, On: func(Reason) bool { return true }, ModelUntil: began.Add(time.Minute),
				}}
				_, failed = b.Admit(ctx, a)
				if failed == nil || failed.Reason != Saturated || time.Since(began) != tc.waited || (a.Wait.Time > 0) != tc.place {
					t.Fatalf("%+v after %s, waited %+v", failed, time.Since(began), a.Wait)
				}
				if refused := tc.waited < time.Hour; refused != failed.MayWait || refused != (failed.Next == Retry) || refused != (failed.ExpectedWait > 0) {
					t.Errorf("%+v", failed)
				}
				if _, waiting, _ := b.Queue(); waiting != 0 {
					t.Error("the call is still in the queue")
				}
			})
		})
	}
}

// TestReadyAtTheEndOfModelWait: the model becomes ready at the moment at which the call no longer
// waits for it, so that the call reads the new state before it notices the change.
func TestReadyAtTheEndOfModelWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := &settableLocal{}
		local.becomes(LocalState{Reason: Loading, Returning: true, Slots: 1})
		b := NewServer("qwen", local, nil)
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		admitted := make(chan *Failure)
		go func() {
			_, failed := b.Admit(ctx, &Attempt{Request: &request.Request{}, Timeout: time.Hour, Alternative: Alternative{
				Exists: true, On: func(Reason) bool { return true }, ModelUntil: began.Add(time.Second),
			}})
			admitted <- failed
		}()
		synctest.Wait()
		local.mu.Lock()
		local.state = LocalState{Alive: true, Slots: 1, Changed: make(chan struct{})} // the old one is not closed yet
		local.mu.Unlock()
		select {
		case failed := <-admitted:
			if failed != nil {
				t.Error(failed.Detail)
			}
		case <-time.After(time.Minute):
			t.Error("the call waits for a server that is ready")
			cancel()
			<-admitted
		}
	})
}

// hangingProgress keeps its call from running while it waits for its model, as a busy machine does.
type hangingProgress time.Duration

func (p hangingProgress) Wait(bool, func() int) { time.Sleep(time.Duration(p)) }
func (hangingProgress) Send()                   {}

// TestWaitEndsOnce: a call that does not run while both its time and its wait for the model end has
// waited as long as it may: it does not wait for the same server again, and its client is told nothing.
func TestWaitEndsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 { // either end may be seen first
			local := &settableLocal{}
			local.becomes(LocalState{Reason: Loading, Detail: "is loading", Returning: true, Slots: 1})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, failed := NewServer("qwen", local, nil).Admit(ctx, &Attempt{
				Request: &request.Request{}, Timeout: time.Second, Progress: hangingProgress(time.Minute),
				Alternative: Alternative{Exists: true, On: func(Reason) bool { return true }, ModelUntil: time.Now().Add(2 * time.Second)},
				KeepAlive:   KeepAlive{After: 2 * time.Second, Notify: func(int) { t.Error("the response began after the wait") }},
			})
			if failed == nil || failed.Next != NoRetry || failed.Detail != "is loading, and accepted no call within 1s" {
				t.Fatalf("%+v", failed)
			}
		}
	})
}
