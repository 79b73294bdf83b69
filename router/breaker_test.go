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
		if !b.enter(now) {
			return false
		}
		b.report(o, down, now)
		return true
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
	if opened, _ := b.report(isDown, down, now); !opened {
		t.Fatal("not open after as many failures in a row")
	}
	b.report(isDown, down, now) // one that was under way
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
		if !b.enter(now) || b.enter(now) {
			t.Fatal("half-open lets one call in, and one alone")
		}
		if f, _ := b.shut(now); f == nil {
			t.Error("while one tries, the others go elsewhere")
		}
		b.report(isDown, down, now)
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
		"503": {answered(503), false, isDown}, "522": {answered(522), false, isDown},
		"nonsense": {&failure{reason: BadResponse}, false, isUp},
	} {
		if got := outcomeOf(tc.failed, tc.left); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
