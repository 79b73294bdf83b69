package backend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/request"
)

func TestBreaker(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	down := &Failure{Backend: "u", Reason: Connect, Detail: "cannot be reached"}
	call := func(o outcome) (allowed bool) {
		allowed, probe := b.allow(now)
		if allowed {
			b.report(o, down, probe, now)
		}
		return allowed
	}
	for range BreakAfter - 1 {
		call(isDown)
	}
	call(isUp) // not in a row
	for range BreakAfter - 1 {
		call(isDown)
	}
	if f, _ := b.openReason(now); f != nil {
		t.Fatal("open too early")
	}
	if opened, _ := b.report(isDown, down, false, now); !opened {
		t.Fatal("not open after as many failures in a row")
	}
	b.report(isDown, down, false, now) // one that was under way
	for _, seconds := range []int{5, 10, 20, 40, 60, 60} {
		pause := time.Duration(seconds) * time.Second
		now = now.Add(pause - 1)
		if f, left := b.openReason(now); f == nil || f.Reason != Connect || left != 1 || call(isUp) {
			t.Fatalf("before %s are over: %+v, %s left", pause, f, left)
		}
		now = now.Add(1)
		if f, _ := b.openReason(now); f != nil {
			t.Fatalf("it may be tried after %s", pause)
		}
		_, probe := b.allow(now)
		if second, _ := b.allow(now); !probe || second {
			t.Fatal("half-open lets one call in, and one alone")
		}
		b.report(noEvidence, nil, false, now) // calls from before that end now
		b.report(isDown, down, false, now)
		if second, _ := b.allow(now); second {
			t.Fatal("a call from before has ended the probe's turn")
		}
		if f, _ := b.openReason(now); f == nil {
			t.Error("while one tries, the others go elsewhere")
		}
		b.report(isDown, down, true, now)
	}
	now = now.Add(time.Minute)
	if !call(noEvidence) || call(isUp) {
		t.Error("after a probe without evidence, the next one comes at once")
	}
	if f, left := b.openReason(now); f == nil || left != time.Minute {
		t.Errorf("%+v, %s left; a probe without evidence does not change the pause", f, left)
	}
	now = now.Add(time.Minute)
	if !call(isUp) || !call(isDown) {
		t.Error("an answer does not close it")
	}
	if f, _ := b.openReason(now); f != nil {
		t.Error("one failure opens it again")
	}
}

// TestHangingUpstream: an upstream that only hangs is found dead by callers in haste
// as well, if there are many of them and no call is answered.
func TestHangingUpstream(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	hung := &Failure{Backend: "u", Reason: Timeout, Detail: "did not answer within 1s"}
	for range 2 {
		for range impatientThreshold - 1 {
			b.report(noEvidence, hung, false, now)
		}
		b.report(isUp, nil, false, now) // not in a row
	}
	for range 2 * impatientThreshold {
		b.report(noEvidence, &Failure{Reason: Timeout, Phase: Generating}, false, now)
		b.report(noEvidence, &Failure{Reason: Lost}, false, now) // its client closed the connection
	}
	if f, _ := b.openReason(now); f != nil {
		t.Fatal("open for what says nothing")
	}
	for range impatientThreshold - 1 {
		b.report(noEvidence, hung, false, now)
	}
	if opened, _ := b.report(noEvidence, hung, false, now); !opened {
		t.Fatal("not open after so many timeouts in a row")
	}
	if f, left := b.openReason(now); f == nil || f.Reason != Timeout || left != FirstOpen {
		t.Errorf("%+v, %s left", f, left)
	}
	b.report(noEvidence, hung, false, now) // one that was under way
	now = now.Add(FirstOpen)
	if _, probe := b.allow(now); !probe {
		t.Fatal("it is not tried again")
	}
	b.report(noEvidence, hung, true, now)
	if f, left := b.openReason(now); f == nil || left != 2*FirstOpen {
		t.Errorf("%+v, %s left; a probe that hung is one more", f, left)
	}
	if _, closed := b.report(isUp, nil, false, now); !closed {
		t.Error("an answer does not close it")
	}
}

func TestOutcome(t *testing.T) {
	answered := func(status int) *Failure {
		return &Failure{Reason: Status, Response: &Response{Status: status}}
	}
	for name, tc := range map[string]struct {
		failed *Failure
		left   bool
		want   outcome
	}{
		"an answer": {nil, false, isUp}, "refused": {&Failure{Reason: Connect}, false, isDown},
		"silence": {&Failure{Reason: Timeout, HadFairChance: true}, false, isDown}, "broken": {&Failure{Reason: Lost}, false, isDown},
		"broken after its head": {&Failure{Reason: Lost, Phase: Generating}, false, noEvidence},
		"the client is gone":    {&Failure{Reason: Lost}, true, noEvidence}, "401": {answered(401), false, isUp},
		"429": {answered(429), false, isUp}, "500": {answered(500), false, isUp}, "502": {answered(502), false, isDown},
		"503":               {answered(503), false, isDown},
		"502 of one model":  {&Failure{Reason: Status, Response: &Response{Status: 502, Body: []byte(`{"error":{"message":"provider returned error"}}`)}}, false, isUp},
		"slow, but there":   {&Failure{Reason: Timeout, Phase: Generating}, false, noEvidence},
		"a caller in haste": {&Failure{Reason: Timeout}, false, noEvidence},
		"522":               {answered(522), false, isDown},
		"598":               {answered(598), false, isDown},
		"509":               {answered(509), false, isUp},
		"529 of Anthropic":  {&Failure{Reason: Status, Response: &Response{Status: 529, Body: []byte(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)}}, false, isUp},
		"nonsense":          {&Failure{Reason: BadResponse}, false, isUp},
	} {
		if got := outcomeOf(tc.failed, tc.left); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestMayHaveGenerated: what is not known to be a refusal may have been paid for.
func TestMayHaveGenerated(t *testing.T) {
	for want, statuses := range map[bool][]int{
		true:  {408, 460, 499, 500, 502, 504, 506, 507, 520, 521, 522, 523, 524, 527, 561, 598, 599, 999},
		false: {302, 400, 401, 402, 403, 404, 413, 422, 429, 501, 503, 505, 509, 511, 525, 526, 529, 530},
	} {
		for _, status := range statuses {
			if mayHaveGenerated(status) != want {
				t.Errorf("%d: want %t", status, want)
			}
		}
	}
}

// TestFairChance: a timeout is evidence against an upstream if the upstream had the time that
// a healthy one may need.
func TestFairChance(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout          time.Duration
		connects, stream bool
		want             outcome
	}{
		"no connection":             {3 * time.Second, false, true, isDown},
		"no connection, too soon":   {2 * time.Second, false, true, noEvidence},
		"no stream":                 {10 * time.Second, true, true, isDown},
		"no stream, too soon":       {9 * time.Second, true, true, noEvidence},
		"no whole answer":           {30 * time.Second, true, false, isDown},
		"no whole answer, too soon": {29 * time.Second, true, false, noEvidence},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := &Attempt{Request: &request.Request{Body: request.Body{Stream: tc.stream}}, sentAt: time.Now()}
				at.wroteHeaders.Store(tc.connects)
				time.Sleep(tc.timeout) // of the bubble's clock
				failed := at.SendFailure(context.DeadlineExceeded)
				failed.Reason = Timeout // as the attempt finds it
				if got := outcomeOf(failed, false); got != tc.want {
					t.Errorf("%+v: outcome %d, want %d", failed, got, tc.want)
				}
			})
		})
	}
}

// TestBreakerState: a breaker that has opened is half open after its pause.
func TestBreakerState(t *testing.T) {
	var br breaker
	now := time.Now()
	for range BreakAfter {
		br.report(isDown, &Failure{Reason: Connect}, false, now)
	}
	for at, want := range map[time.Duration]BreakerState{0: BreakerOpen, FirstOpen - 1: BreakerOpen, FirstOpen: BreakerHalfOpen} {
		if got := br.state(now.Add(at)); got != want {
			t.Errorf("after %s it is %s, want %s", at, got, want)
		}
	}
	if allowed, probe := br.allow(now.Add(FirstOpen)); !allowed || !probe || br.state(now.Add(FirstOpen)) != BreakerHalfOpen {
		t.Error("while it is tried it is not half open")
	}
}
