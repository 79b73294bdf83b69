package plan

import (
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
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
				last := Attempted{
					Primary: bit(0), Local: bit(1), Metered: !bit(1) && bit(2), Phase: phase, Reason: reason,
					OverBudget: bit(3), Invalid: bit(4), LocalField: bit(5),
				}
				inFallbackOn, gone := bit(6), bit(7)
				past := []Attempted{last}
				if bit(8) { // a metered backend failed before it, and may have generated something
					past = []Attempted{{Metered: true, Phase: backend.Sent, Reason: backend.Timeout}, last}
				}
				for _, next := range []Candidate{{Info: backend.Info{Local: true}}, {Info: backend.Info{Local: true}, Primary: true, OtherBox: true}, {Info: backend.Info{Metered: true}}, {}} {
					n++
					got := MayMoveOn(past, next, func(r backend.Reason) bool { return r == reason && inFallbackOn }, gone)
					want := obstacleByRules(past, next, inFallbackOn, gone)
					if got != want {
						t.Fatalf("after %+v, to %+v, fallback_on has it: %t, client gone: %t: %s, want %s", past, next, inFallbackOn, gone, got, want)
					}
				}
			}
		}
	}
	if want := len(phases) * len(models.Reasons) << 9 * 4; n != want {
		t.Errorf("%d combinations, want %d", n, want)
	}
}

// obstacleByRules are the rules, in the order in which they apply.
func obstacleByRules(past []Attempted, next Candidate, inFallbackOn, gone bool) Obstacle {
	last := past[len(past)-1]
	if gone { // an answer would not be read
		return ClientGone
	}
	if last.Primary && !next.Primary && !inFallbackOn && !last.OverBudget { // the operator's choice
		return OutsideFallback
	}
	if last.Local && last.LocalField { // an upstream would ignore the field, and answer something else
		return LocalField
	}
	if last.Invalid && last.Primary && next.Primary { // the boxes have the same model
		return InvalidRequest
	}
	if last.Invalid && !last.Primary { // the primary's turn is over, and the request is wrong
		return InvalidRequest
	}
	for _, a := range past { // once paid, never paid again
		if a.Metered && (a.Phase == backend.Sent || a.Phase == backend.Generating) && next.Metered {
			return PaidTwice
		}
	}
	return NoObstacle
}

// TestMayMoveOnExamples are the cases that an operator asks about.
func TestMayMoveOnExamples(t *testing.T) {
	cloud, gpu := backend.Info{Name: "openrouter", Metered: true}, backend.Info{Name: "qwen", Local: true}
	all := func(backend.Reason) bool { return true }
	for name, tc := range map[string]struct {
		past []Attempted
		next backend.Info
		want Obstacle
	}{
		"the GPU server ended in the middle of its work": {[]Attempted{{Primary: true, Local: true, Phase: backend.Generating, Reason: backend.Lost}}, cloud, NoObstacle},
		"the cloud timed out":                            {[]Attempted{{Primary: true, Metered: true, Phase: backend.Sent, Reason: backend.Timeout}}, cloud, PaidTwice},
		"the cloud timed out, and the GPU is free":       {[]Attempted{{Primary: true, Metered: true, Phase: backend.Sent, Reason: backend.Timeout}}, gpu, NoObstacle},
		"the cloud was overloaded":                       {[]Attempted{{Primary: true, Metered: true, Phase: backend.Rejected, Reason: backend.Status}}, cloud, NoObstacle},
		"a paid timeout two attempts ago":                {[]Attempted{{Primary: true, Metered: true, Phase: backend.Sent}, {Local: true, Phase: backend.NotSent}}, cloud, PaidTwice},
		"no connection to the cloud":                     {[]Attempted{{Metered: true, Phase: backend.NotSent, Reason: backend.Connect}}, cloud, NoObstacle},
		"the fallback rejects the request":               {[]Attempted{{Primary: true, Local: true}, {Metered: true, Phase: backend.Rejected, Reason: backend.Status, Invalid: true}}, gpu, InvalidRequest},
		"a bad grammar":                                  {[]Attempted{{Primary: true, Local: true, Phase: backend.Rejected, Reason: backend.Status, Invalid: true, LocalField: true}}, cloud, LocalField},
	} {
		if got := MayMoveOn(tc.past, Candidate{Info: tc.next}, all, false); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestContextTooSmall: a prompt that exceeds the context of one box is not given to a box whose
// context is not larger. It is given to a box of which that is unknown, and to fallbacks: they have
// other models.
func TestContextTooSmall(t *testing.T) {
	box := func(context int) Candidate {
		peer := boxes.NewPeer(&boxes.PeerBox{Name: "box2"}, "qwen", boxes.PeerState{Status: "ready", Context: context})
		return Candidate{Info: peer.Info(), Backend: peer, Primary: true, OtherBox: true}
	}
	over := func(context int) Attempted {
		return Attempted{Primary: true, Local: true, Phase: backend.Rejected, Reason: backend.ContextOverflow, OverContext: context}
	}
	failed := Attempted{Primary: true, Local: true, Reason: backend.Lost}
	fallback := box(2048)
	fallback.Primary = false
	for name, tc := range map[string]struct {
		past []Attempted
		next Candidate
		want Obstacle
	}{
		"a larger one":               {[]Attempted{over(4096)}, box(8192), NoObstacle},
		"the same":                   {[]Attempted{over(4096)}, box(4096), ContextTooSmall},
		"a smaller one":              {[]Attempted{over(4096)}, box(2048), ContextTooSmall},
		"smaller than one of two":    {[]Attempted{over(8192), over(2048)}, box(4096), ContextTooSmall},
		"larger than both":           {[]Attempted{over(8192), over(2048)}, box(16384), NoObstacle},
		"another failure comes last": {[]Attempted{over(4096), failed}, box(2048), ContextTooSmall},
		"of an older box":            {[]Attempted{over(4096)}, box(0), NoObstacle},
		"an older box has refused":   {[]Attempted{over(0)}, box(2048), NoObstacle},
		"a fallback":                 {[]Attempted{over(4096)}, fallback, NoObstacle},
		"an upstream":                {[]Attempted{over(4096)}, Candidate{Info: backend.Info{Metered: true}, Backend: &backend.Upstream{}}, NoObstacle},
	} {
		if got := MayMoveOn(tc.past, tc.next, func(backend.Reason) bool { return true }, false); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
