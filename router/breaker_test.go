package router

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

func TestBreaker(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	down := &failure{backend: "u", reason: Connect, detail: "can't be reached"}
	call := func(o outcome) (let bool) {
		let, probe := b.enter(now)
		if let {
			b.report(o, down, probe, now)
		}
		return let
	}
	for range breakAfter - 1 {
		call(isDown)
	}
	call(isUp) // not in a row
	for range breakAfter - 1 {
		call(isDown)
	}
	if f, _ := b.shut(now); f != nil {
		t.Fatal("open too early")
	}
	if opened, _ := b.report(isDown, down, false, now); !opened {
		t.Fatal("not open after as many failures in a row")
	}
	b.report(isDown, down, false, now) // one that was under way
	for _, seconds := range []int{5, 10, 20, 40, 60, 60} {
		pause := time.Duration(seconds) * time.Second
		now = now.Add(pause - 1)
		if f, left := b.shut(now); f == nil || f.reason != Connect || left != 1 || call(isUp) {
			t.Fatalf("before %s are over: %+v, %s left", pause, f, left)
		}
		now = now.Add(1)
		if f, _ := b.shut(now); f != nil {
			t.Fatalf("it may be tried after %s", pause)
		}
		_, probe := b.enter(now)
		if second, _ := b.enter(now); !probe || second {
			t.Fatal("half-open lets one call in, and one alone")
		}
		b.report(saysNothing, nil, false, now) // calls from before that end now
		b.report(isDown, down, false, now)
		if second, _ := b.enter(now); second {
			t.Fatal("a call from before has ended the probe's turn")
		}
		if f, _ := b.shut(now); f == nil {
			t.Error("while one tries, the others go elsewhere")
		}
		b.report(isDown, down, true, now)
	}
	now = now.Add(time.Minute)
	if !call(saysNothing) || call(isUp) {
		t.Error("after a try that said nothing, the next one comes at once")
	}
	if f, left := b.shut(now); f == nil || left != time.Minute {
		t.Errorf("%+v, %s left; a try that says nothing leaves the pause as it is", f, left)
	}
	now = now.Add(time.Minute)
	if !call(isUp) || !call(isDown) {
		t.Error("an answer does not close it")
	}
	if f, _ := b.shut(now); f != nil {
		t.Error("one failure opens it again")
	}
}

// TestHangingUpstream: an upstream that only hangs is found dead by callers in haste
// as well, if there are many of them and nobody is answered.
func TestHangingUpstream(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	hung := &failure{backend: "u", reason: Timeout, detail: "gave no answer within 1s"}
	for range 2 {
		for range hastyAfter - 1 {
			b.report(saysNothing, hung, false, now)
		}
		b.report(isUp, nil, false, now) // not in a row
	}
	for range 2 * hastyAfter {
		b.report(saysNothing, &failure{reason: Timeout, spoke: true}, false, now)
		b.report(saysNothing, &failure{reason: Lost}, false, now) // its client left
	}
	if f, _ := b.shut(now); f != nil {
		t.Fatal("open for what says nothing")
	}
	for range hastyAfter - 1 {
		b.report(saysNothing, hung, false, now)
	}
	if opened, _ := b.report(saysNothing, hung, false, now); !opened {
		t.Fatal("not open after so many timeouts in a row")
	}
	if f, left := b.shut(now); f == nil || f.reason != Timeout || left != breakFirst {
		t.Errorf("%+v, %s left", f, left)
	}
	b.report(saysNothing, hung, false, now) // one that was under way
	now = now.Add(breakFirst)
	if _, probe := b.enter(now); !probe {
		t.Fatal("it is not tried again")
	}
	b.report(saysNothing, hung, true, now)
	if f, left := b.shut(now); f == nil || left != 2*breakFirst {
		t.Errorf("%+v, %s left; a probe that hung is one more", f, left)
	}
	if _, closed := b.report(isUp, nil, false, now); !closed {
		t.Error("an answer does not close it")
	}
}

func TestOutcome(t *testing.T) {
	answered := func(status int) *failure {
		return &failure{reason: Status, resp: &http.Response{StatusCode: status}}
	}
	for name, tc := range map[string]struct {
		failed *failure
		left   bool
		want   outcome
	}{
		"an answer": {nil, false, isUp}, "refused": {&failure{reason: Connect}, false, isDown},
		"silence": {&failure{reason: Timeout, fair: true}, false, isDown}, "broken": {&failure{reason: Lost}, false, isDown},
		"broken after its head": {&failure{reason: Lost, spoke: true}, false, saysNothing},
		"a client that left":    {&failure{reason: Lost}, true, saysNothing}, "401": {answered(401), false, isUp},
		"429": {answered(429), false, isUp}, "500": {answered(500), false, isUp}, "502": {answered(502), false, isDown},
		"503":               {answered(503), false, isDown},
		"502 of one model":  {&failure{reason: Status, resp: &http.Response{StatusCode: 502}, body: []byte(`{"error":{"message":"provider returned error"}}`)}, false, isUp},
		"slow, but there":   {&failure{reason: Timeout, spoke: true}, false, saysNothing},
		"a caller in haste": {&failure{reason: Timeout}, false, saysNothing},
		"522":               {answered(522), false, isDown},
		"598":               {answered(598), false, isDown},
		"509":               {answered(509), false, isUp},
		"529 of Anthropic":  {&failure{reason: Status, resp: &http.Response{StatusCode: 529}, body: []byte(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)}, false, isUp},
		"nonsense":          {&failure{reason: BadResponse}, false, isUp},
	} {
		if got := outcomeOf(tc.failed, tc.left); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// silent is an upstream that says nothing.
type silent struct {
	*upstreamBackend
	connects bool
	heardOf  outcome
}

func (b *silent) do(ctx context.Context, _ *request.Request, _ string) (*http.Response, error) {
	if b.connects {
		progressOf(ctx).sent.Store(true)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (b *silent) heard(f *failure, _ *place, left bool) { b.heardOf = outcomeOf(f, left) }

// TestHasteIsNoNews: that an upstream was silent speaks against it where it was
// given the time that one which is up may need.
func TestHasteIsNoNews(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout          time.Duration
		connects, stream bool
		want             outcome
	}{
		"no connection":             {3 * time.Second, false, true, isDown},
		"no connection, in haste":   {2 * time.Second, false, true, saysNothing},
		"no stream":                 {10 * time.Second, true, true, isDown},
		"no stream, in haste":       {9 * time.Second, true, true, saysNothing},
		"no whole answer":           {30 * time.Second, true, false, isDown},
		"no whole answer, in haste": {29 * time.Second, true, false, saysNothing},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &silent{&upstreamBackend{}, tc.connects, saysNothing}
				c := &request.Request{Body: request.Body{Raw: fmt.Appendf(nil, `{"stream":%t}`, tc.stream), Stream: tc.stream}, Dialect: wire.Chat}
				_, failed := attempt(t.Context(), c, step{backend: b}, tc.timeout, 0, alternative{}, false)
				if failed == nil || failed.reason != Timeout || b.heardOf != tc.want {
					t.Errorf("%+v, of which the breaker hears %d; want %d", failed, b.heardOf, tc.want)
				}
			})
		})
	}
}

// TestHastyRoute: a route that gives up soon does not close an upstream to the
// others.
func TestHastyRoute(t *testing.T) {
	b := newBench(t, answers, nil, func(_ *Config, routes map[string]models.Route) {
		routes["hasty"] = models.Route{Primary: "openrouter", PrimaryModel: "slow", Fallback: "qwen", Timeout: 50 * time.Millisecond}
	})
	b.cloud.behave = func(w http.ResponseWriter, r *http.Request) {
		if bytes.Contains(b.cloud.lastBody(), []byte(`"slow"`)) {
			<-r.Context().Done()
			return
		}
		answers(w, r)
	}
	for range breakAfter + 1 {
		if r := b.chat("hasty", false); r.backend() != "qwen" || r.reason() != "timeout" {
			t.Errorf("%+v", r)
		}
	}
	if r := b.chat("gpt-4o", false); r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("a patient call: %+v", r)
	}
}

// TestBrokenModel: streams of one model that break do not close an upstream to the
// others.
func TestBrokenModel(t *testing.T) {
	b := newBench(t, answers, nil)
	b.cloud.behave = func(w http.ResponseWriter, r *http.Request) {
		if bytes.Contains(b.cloud.lastBody(), []byte(`"broken/model"`)) {
			sends(breaks, roleEvent)(w, r)
			return
		}
		answers(w, r)
	}
	for range breakAfter {
		if r := b.chat("broken/model", true); r.status != 502 {
			t.Errorf("%+v", r)
		}
	}
	if r := b.chat("gpt-4o", false); r.status != 200 {
		t.Errorf("another model: %+v", r)
	}
}

// TestMayHaveBegun: what is not known to be a refusal may have been paid for.
func TestMayHaveBegun(t *testing.T) {
	for want, statuses := range map[bool][]int{
		true:  {408, 460, 499, 500, 502, 504, 506, 507, 520, 521, 522, 523, 524, 527, 561, 598, 599, 999},
		false: {302, 400, 401, 402, 403, 404, 413, 422, 429, 501, 503, 505, 509, 511, 525, 526, 529, 530},
	} {
		for _, status := range statuses {
			if mayHaveBegun(status) != want {
				t.Errorf("%d: want %t", status, want)
			}
		}
	}
}
