package router

import (
	"net/http"
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// TestMayMoveOn goes through every combination of how far the last attempt came, who made
// it, its reason, fallback_on, a budget in the way, an invalid request, a field of
// llama-server's own, what was paid before, the next candidate and the client's
// connection, and compares the decision with the rules, one by one.
func TestMayMoveOn(t *testing.T) {
	both := []bool{false, true}
	phases := []backend.Phase{backend.NotSent, backend.Sent, backend.Rejected, backend.Generating}
	n := 0
	for _, phase := range phases {
		for _, reason := range models.Reasons {
			for bits := range 1 << 9 {
				bit := func(i int) bool { return both[bits>>i&1] }
				last := attempted{
					primary: bit(0), local: bit(1), metered: !bit(1) && bit(2), phase: phase, reason: reason,
					overBudget: bit(3), invalid: bit(4), localField: bit(5),
				}
				inFallbackOn, gone := bit(6), bit(7)
				past := []attempted{last}
				if bit(8) { // a metered backend failed before it, and may have generated something
					past = []attempted{{metered: true, phase: backend.Sent, reason: backend.Timeout}, last}
				}
				for _, next := range []backend.Info{{Local: true}, {Metered: true}, {}} {
					n++
					got := mayMoveOn(past, next, func(r backend.Reason) bool { return r == reason && inFallbackOn }, gone)
					want := obstacleByRules(past, next, inFallbackOn, gone)
					if got != want {
						t.Fatalf("after %+v, to %+v, fallback_on has it: %t, client gone: %t: %s, want %s", past, next, inFallbackOn, gone, got, want)
					}
				}
			}
		}
	}
	if want := len(phases) * len(models.Reasons) << 9 * 3; n != want {
		t.Errorf("%d combinations, want %d", n, want)
	}
}

// obstacleByRules are the rules, in the order in which they apply.
func obstacleByRules(past []attempted, next backend.Info, inFallbackOn, gone bool) obstacle {
	last := past[len(past)-1]
	if gone { // no one reads an answer
		return clientGone
	}
	if last.primary && !inFallbackOn && !last.overBudget { // the operator's choice
		return outsideFallback
	}
	if last.local && last.localField { // an upstream would ignore the field, and answer something else
		return localField
	}
	if last.invalid && !last.primary { // the primary's turn is over, and the request is wrong
		return invalidRequest
	}
	for _, a := range past { // once paid, never paid again
		if a.metered && (a.phase == backend.Sent || a.phase == backend.Generating) && next.Metered {
			return paidTwice
		}
	}
	return noObstacle
}

// TestMayMoveOnExamples are the cases that an operator asks about.
func TestMayMoveOnExamples(t *testing.T) {
	cloud, gpu := backend.Info{Name: "openrouter", Metered: true}, backend.Info{Name: "qwen", Local: true}
	all := func(backend.Reason) bool { return true }
	for name, tc := range map[string]struct {
		past []attempted
		next backend.Info
		want obstacle
	}{
		"the GPU server ended in the middle of its work": {[]attempted{{primary: true, local: true, phase: backend.Generating, reason: backend.Lost}}, cloud, noObstacle},
		"the cloud timed out":                            {[]attempted{{primary: true, metered: true, phase: backend.Sent, reason: backend.Timeout}}, cloud, paidTwice},
		"the cloud timed out, and the GPU is free":       {[]attempted{{primary: true, metered: true, phase: backend.Sent, reason: backend.Timeout}}, gpu, noObstacle},
		"the cloud was overloaded":                       {[]attempted{{primary: true, metered: true, phase: backend.Rejected, reason: backend.Status}}, cloud, noObstacle},
		"a paid timeout two attempts ago":                {[]attempted{{primary: true, metered: true, phase: backend.Sent}, {local: true, phase: backend.NotSent}}, cloud, paidTwice},
		"no connection to the cloud":                     {[]attempted{{metered: true, phase: backend.NotSent, reason: backend.Connect}}, cloud, noObstacle},
		"the fallback rejects the request":               {[]attempted{{primary: true, local: true}, {metered: true, phase: backend.Rejected, reason: backend.Status, invalid: true}}, gpu, invalidRequest},
		"a bad grammar":                                  {[]attempted{{primary: true, local: true, phase: backend.Rejected, reason: backend.Status, invalid: true, localField: true}}, cloud, localField},
	} {
		if got := mayMoveOn(tc.past, tc.next, all, false); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestThreeFallbacks: a call goes to one fallback after another, in their order, and the
// client is told about all that failed.
func TestThreeFallbacks(t *testing.T) {
	overloaded := status(http.StatusServiceUnavailable, `{"error":{"message":"busy"}}`, "Retry-After", "600")
	for name, tc := range map[string]struct {
		second, third http.HandlerFunc
		want          string // the backend that answers; "" = none
	}{
		"the second answers":               {answers, answers, "second"},
		"the third answers":                {overloaded, answers, "third"},
		"the second breaks, and was paid":  {breaks, answers, ""},
		"all are overloaded":               {overloaded, overloaded, ""},
		"the second finds the call wrong":  {status(http.StatusBadRequest, `{"error":{"message":"wrong"}}`), answers, ""},
		"the second has another key, then": {status(http.StatusUnauthorized, `{"error":{"message":"key"}}`), answers, "third"},
	} {
		t.Run(name, func(t *testing.T) {
			second, third := newPeer(t, tc.second), newPeer(t, tc.third)
			b := newBench(t, status(http.StatusInternalServerError, `{"error":{"message":"no"}}`), overloaded, func(c *Config, routes map[string]models.Route) {
				c.Upstreams = append(
					c.Upstreams, backend.UpstreamConfig{Name: "second", BaseURL: second.URL, Key: "k2"}, backend.UpstreamConfig{Name: "third", BaseURL: third.URL, Key: "k3"},
				)
				route := routes["local/qwen"]
				route.Fallback, route.FallbackModel = "", ""
				route.Fallbacks = []models.Fallback{{To: "openrouter", Model: "a"}, {To: "second", Model: "b"}, {To: "third", Model: "c"}}
				routes["local/qwen"] = route
			})
			r := b.chat("local/qwen", false)
			if r.backend() != tc.want || (r.status == http.StatusOK) != (tc.want != "") {
				t.Errorf("%+v", r)
			}
		})
	}
}
