package router

import (
	"net/http"
	"testing"
	"time"
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
	if !call(saysNothing) || !call(isUp) || !call(isDown) {
		t.Error("a try that says nothing leaves it to the next one, and an answer closes it")
	}
	if f, _ := b.shut(now); f != nil {
		t.Error("one failure opens it again")
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
		"silence": {&failure{reason: Timeout}, false, isDown}, "broken": {&failure{reason: Lost}, false, isDown},
		"a client that left": {&failure{reason: Lost}, true, saysNothing}, "401": {answered(401), false, isUp},
		"429": {answered(429), false, isUp}, "500": {answered(500), false, isUp}, "502": {answered(502), false, isDown},
		"503":              {answered(503), false, isDown},
		"502 of one model": {&failure{reason: Status, resp: &http.Response{StatusCode: 502}, body: []byte(`{"error":{"message":"provider returned error"}}`)}, false, isUp},
		"slow, but there":  {&failure{reason: Timeout, spoke: true}, false, saysNothing},
		"522":              {answered(522), false, isDown},
		"nonsense":         {&failure{reason: BadResponse}, false, isUp},
	} {
		if got := outcomeOf(tc.failed, tc.left); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
