package attempt

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// TestTimeout: an attempt without a first answer ends after its timeout, wherever it
// stands.
func TestTimeout(t *testing.T) {
	for name, b := range map[string]*fakeBackend{
		"no headers": {},
		"in the queue": {admit: func(ctx context.Context, _ *backend.Load) (*backend.Lease, *backend.Failure) {
			<-ctx.Done()
			return nil, &backend.Failure{Reason: backend.Timeout, Detail: "did not answer within 1m0s"}
		}},
		"comments only": {send: func(context.Context) response {
			body, w := io.Pipe()
			go func() { _, _ = io.WriteString(w, ": ping\n\n"+roleEvent) }()
			return response{status: 200, contentType: eventStream, body: body}
		}},
		"half a body": {send: func(context.Context) response {
			body, w := io.Pipe()
			go func() { _, _ = io.WriteString(w, wholeChat[:10]) }()
			return response{status: 200, contentType: jsonType, body: body}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b.info.Name = "u"
				began := time.Now()
				_, failed := Start(t.Context(), params(t, b, true))
				if failed == nil || failed.Reason != backend.Timeout || failed.LogMessage() != "u did not answer within 1m0s" || time.Since(began) != time.Minute {
					t.Errorf("%+v after %s", failed, time.Since(began))
				}
				if b.load.Inflight() != 0 || b.load.Waiting() != 0 {
					t.Error("the lease is not released")
				}
			})
		})
	}
}

// TestGone: when the backend's process ends, the attempt ends at once. The reason is
// "stalled" if the supervisor killed the process because it hung.
func TestGone(t *testing.T) {
	for hung, want := range map[bool]backend.Reason{false: backend.Lost, true: backend.Stalled} {
		synctest.Test(t, func(t *testing.T) {
			gone := make(chan struct{})
			b := &fakeBackend{availability: backend.Availability{Hung: hung}}
			b.admit = func(_ context.Context, load *backend.Load) (*backend.Lease, *backend.Failure) {
				lease := backend.NewLease(load, nil)
				lease.Gone = gone
				return lease, nil
			}
			time.AfterFunc(time.Second, func() { close(gone) })
			began := time.Now()
			_, failed := Start(t.Context(), params(t, b, true))
			if failed == nil || failed.Reason != want || time.Since(began) != time.Second {
				t.Errorf("hung %t: %+v after %s, want %s", hung, failed, time.Since(began), want)
			}
		})
	}
}

// TestClientGone: an attempt ends when its client closes the connection.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		b := &fakeBackend{}
		began := time.Now()
		_, failed := Start(ctx, params(t, b, true))
		if failed == nil || failed.Reason == backend.Timeout || time.Since(began) != time.Second || b.load.Inflight() != 0 {
			t.Errorf("%+v after %s", failed, time.Since(began))
		}
	})
}

// TestRefused: a backend that does not admit a call is not sent it, and the failure has
// the backend's name without its key.
func TestRefused(t *testing.T) {
	b := &fakeBackend{info: backend.Info{Name: "u", Metered: true}}
	b.admit = func(context.Context, *backend.Load) (*backend.Lease, *backend.Failure) {
		return nil, &backend.Failure{Reason: backend.Saturated, Detail: "has no slot for secret", RetryAfter: 3}
	}
	p := withBudget(params(t, b, true), 10)
	_, failed := Start(t.Context(), p)
	if failed == nil || failed.Reason != backend.Saturated || failed.LogMessage() != "u has no slot for [key]" || failed.RetryAfter != 3 {
		t.Fatalf("%+v", failed)
	}
	if b.sent != 0 || failed.Charge != nil || reserved(p) != 0 {
		t.Errorf("sent %d times, charge %v, reserved %s", b.sent, failed.Charge, reserved(p))
	}
}

// TestOverBudget: a call that a budget does not allow is neither admitted nor sent.
func TestOverBudget(t *testing.T) {
	b := &fakeBackend{info: backend.Info{Name: "u", Metered: true}}
	b.admit = func(context.Context, *backend.Load) (*backend.Lease, *backend.Failure) {
		t.Error("the call was to be admitted")
		return nil, &backend.Failure{}
	}
	_, failed := Start(t.Context(), withBudget(params(t, b, true), 0))
	if failed == nil || failed.OverBudget == nil || failed.Reason != backend.Failed || failed.Phase != backend.NotSent {
		t.Errorf("%+v", failed)
	}
}

// TestFailures: how each failure before the first answer is reported, and whether a
// metered backend may have billed it.
func TestFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		send   func(context.Context) response
		reason backend.Reason
		phase  backend.Phase
		billed bool
	}{
		"no connection":      {func(context.Context) response { return response{err: errReset} }, backend.Connect, backend.NotSent, false},
		"400":                {responds(400, jsonType, strings.NewReader(`{"error":{"message":"no"}}`)), backend.Status, backend.Rejected, false},
		"402":                {responds(402, jsonType, strings.NewReader(`{}`)), backend.Status, backend.Rejected, false},
		"429":                {responds(429, jsonType, strings.NewReader(`{}`)), backend.Status, backend.Rejected, false},
		"500":                {responds(500, jsonType, strings.NewReader(`{}`)), backend.Status, backend.Generating, false},
		"504":                {responds(504, jsonType, strings.NewReader(`{}`)), backend.Status, backend.Generating, true},
		"context overflow":   {responds(400, jsonType, strings.NewReader(`{"error":{"type":"exceed_context_size_error"}}`)), backend.ContextOverflow, backend.Rejected, false},
		"an error as 200":    {responds(200, jsonType, strings.NewReader(`{"error":{"message":"no"}}`)), backend.BadResponse, backend.Generating, true},
		"no JSON":            {responds(200, "text/html", strings.NewReader(`<html>`)), backend.BadResponse, backend.Generating, true},
		"an error event":     {responds(200, eventStream, strings.NewReader(`data: {"error":{"message":"no"}}`+"\n\n")), backend.BadResponse, backend.Generating, true},
		"an empty stream":    {responds(200, eventStream, strings.NewReader("")), backend.BadResponse, backend.Generating, true},
		"only a role":        {responds(200, eventStream, strings.NewReader(roleEvent)), backend.BadResponse, backend.Generating, true},
		"a truncated event":  {responds(200, eventStream, strings.NewReader(roleEvent+`data: {"cho`)), backend.Lost, backend.Generating, true},
		"a broken stream":    {responds(200, eventStream, io.MultiReader(strings.NewReader(roleEvent), brokenReader{})), backend.Lost, backend.Generating, true},
		"a broken body":      {responds(200, jsonType, io.MultiReader(strings.NewReader(wholeChat[:9]), brokenReader{})), backend.Lost, backend.Generating, true},
		"a status of no use": {responds(304, jsonType, strings.NewReader("")), backend.Status, backend.Rejected, false},
	} {
		b := &fakeBackend{info: backend.Info{Name: "u", Metered: true}, send: tc.send}
		p := withBudget(params(t, b, true), 10)
		_, failed := Start(t.Context(), p)
		if failed == nil || failed.Backend != "u" || failed.Reason != tc.reason || failed.Phase != tc.phase {
			t.Errorf("%s: %+v; want %s, %s", name, failed, tc.reason, tc.phase)
			continue
		}
		if (failed.Charge != nil) != tc.billed || reserved(p) != 0 {
			t.Errorf("%s: charge %v, reserved %s; want a charge: %t", name, failed.Charge, reserved(p), tc.billed)
		}
		if b.load.Inflight() != 0 {
			t.Errorf("%s: the lease is not released", name)
		}
	}
}

// brokenReader is a connection that was reset.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errReset }

// TestAnswer: what is read before the first answer is held, and the rest can be read.
func TestAnswer(t *testing.T) {
	b := &fakeBackend{send: responds(200, eventStream, strings.NewReader(": ping\n\n"+roleEvent+textEvent+textEvent+"data: [DONE]\n\n"))}
	a, failed := Start(t.Context(), params(t, b, true))
	if failed != nil {
		t.Fatalf("%+v", failed)
	}
	if want := ": ping\n\n" + roleEvent + textEvent; string(a.Held) != want || !a.IsStream() || a.Ended {
		t.Errorf("held %q, want %q", a.Held, want)
	}
	if e, _, err := a.Next(wire.Chat); err != nil || "data: "+string(e.Data)+"\n\n" != textEvent {
		t.Errorf("the next event: %q, %v", e.Data, err)
	}
	if _, m, err := a.Next(wire.Chat); err != nil || !m.Ended {
		t.Errorf("the end mark: %+v, %v", m, err)
	}
	if _, _, err := a.Next(wire.Chat); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	a.Close()
	a.Close()
	if b.load.Inflight() != 0 {
		t.Error("the lease is not released")
	}

	whole, failed := Start(t.Context(), params(t, &fakeBackend{send: responds(200, jsonType, strings.NewReader(wholeChat))}, false))
	if failed != nil || string(whole.Held) != wholeChat || whole.IsStream() || whole.Rest != nil {
		t.Fatalf("%+v, %+v", whole, failed)
	}
	whole.Close()
}

// TestStalled: a stream that has begun ends after the idle time without an event.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, textEvent) }()
		p := params(t, &fakeBackend{send: responds(200, eventStream, body)}, true)
		a, failed := Start(t.Context(), p)
		if failed != nil {
			t.Fatalf("%+v", failed)
		}
		defer a.Close()
		began := time.Now()
		a.Watch()
		defer a.StopWatching()
		_, _, err := a.Next(wire.Chat)
		if late := time.Since(began) - p.Idle; !errors.Is(err, ErrStalled) || late < 0 || late > 2*p.Idle/TicksPerIdle {
			t.Errorf("%v, %s after the idle time", err, late)
		}
	})
}

// TestDiscard: an answer that is of no use becomes a failure, which may have been billed.
func TestDiscard(t *testing.T) {
	b := &fakeBackend{info: backend.Info{Name: "u", Metered: true}, send: responds(200, eventStream, strings.NewReader(textEvent))}
	p := withBudget(params(t, b, true), 10)
	a, failed := Start(t.Context(), p)
	if failed != nil {
		t.Fatalf("%+v", failed)
	}
	failed = a.Discard("u", "answered in another form")
	if failed.LogMessage() != "u answered in another form" || failed.Reason != backend.BadResponse || failed.Charge == nil || reserved(p) != 0 || b.load.Inflight() != 0 {
		t.Errorf("%+v", failed)
	}
}
