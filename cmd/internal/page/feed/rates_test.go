package feed

import (
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	r := &Rates{}
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	old := EndedCall{ID: "old", Backend: "qwen", Ended: at(-20), Tokens: 1000, FirstAnswer: 3 * time.Second}
	ancient := EndedCall{ID: "ancient", Backend: "qwen", Ended: at(-3600), Tokens: 1000, FirstAnswer: time.Minute}
	ended := []EndedCall{old, ancient}
	step := func(seconds float64, tokens int64, more ...EndedCall) Speed {
		t.Helper()
		ended = append(more, ended...)
		var calls []Call
		if tokens >= 0 {
			calls = []Call{{ID: "a", Backend: "qwen", Tokens: tokens}}
		}
		return r.Observe(at(seconds), calls, ended)["qwen"]
	}
	check := func(what string, got *float64, want float64) {
		t.Helper()
		switch {
		case want < 0 && got != nil:
			t.Errorf("%s: %g, want unknown", what, *got)
		case want >= 0 && (got == nil || *got < want*0.99 || *got > want*1.01):
			t.Errorf("%s: %v, want %g", what, got, want)
		}
	}
	s := step(0, 500)
	check("the first look", s.TokensPerSecond, -1)
	check("the first token of one call", s.FirstTokenP50, 3)
	check("one second", step(1, 590).TokensPerSecond, 90)
	check("two seconds", step(2, 680).TokensPerSecond, 90)
	check("it ends, and another one that was not seen", step(3, -1,
		EndedCall{ID: "a", Backend: "qwen", Ended: at(2.5), Tokens: 770, FirstAnswer: time.Second},
		EndedCall{ID: "b", Backend: "qwen", Ended: at(2.9), Tokens: 30, FirstAnswer: 2 * time.Second}).TokensPerSecond, 100)
	s = step(4, -1)
	check("nothing more in the fourth second", s.TokensPerSecond, 75)
	check("the median", s.FirstTokenP50, 2)
	for n := range 12 {
		s = step(5+float64(n), -1)
	}
	check("ten seconds without a call", s.TokensPerSecond, -1)
	check("another server", r.Observe(at(17), nil, nil)["other"].TokensPerSecond, -1)
	check("a page is opened after a while", step(1000, 5, EndedCall{ID: "c", Backend: "qwen", Ended: at(999), Tokens: 4000}).TokensPerSecond, -1)
}
