package scheduler

import (
	"testing"
	"time"
)

// TestLoadsIn: after what time a model of 10 GiB, which loads in 10 s, would answer.
func TestLoadsIn(t *testing.T) {
	const s = time.Second
	other := model("other", 20).loaded(time.Hour)
	other.Leave = 2 * s
	busy := other
	busy.InFlight = 1
	for name, tc := range map[string]struct {
		free   float64
		models []Model
		want   time.Duration // 0 = unknown, or too long
	}{
		"free VRAM":                     {24, []Model{model("a", 10)}, 10 * s},
		"an idle model leaves":          {4, []Model{model("a", 10), other}, 12 * s},
		"one with a call does not":      {4, []Model{model("a", 10), busy}, 0},
		"nor one for which calls wait":  {4, []Model{model("a", 10), other.waiting(3, s)}, 0},
		"nor a pinned one":              {4, []Model{model("a", 10), func() Model { m := other; m.Pinned = true; return m }()}, 0},
		"one leaves already":            {4, []Model{model("a", 10), func() Model { m := other; m.Phase = Unloading; return m }()}, 12 * s},
		"another one is loaded first":   {24, []Model{model("a", 10), model("b", 20).waiting(1, s)}, 0},
		"calls wait for it":             {24, []Model{model("a", 10).waiting(2, s)}, 10 * s},
		"it is larger than the GPU":     {24, []Model{model("a", 30)}, 0},
		"its last load failed":          {24, []Model{func() Model { m := model("a", 10); m.LoadFrom = now.Add(s); return m }()}, 0},
		"it is loaded":                  {4, []Model{model("a", 10).loaded(time.Minute)}, 0},
		"other processes hold the VRAM": {4, []Model{model("a", 10)}, 0},
		"unknown":                       {24, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			state := State{Now: now, GPUs: []GPU{card(0, tc.free)}, Models: tc.models}
			if got, ok := LoadsIn(state, "a"); got != tc.want || ok != (tc.want > 0) {
				t.Errorf("%s, %v; want %s", got, ok, tc.want)
			}
		})
	}
}
