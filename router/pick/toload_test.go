package pick

import (
	"testing"
	"time"
)

// TestToLoad: which of the boxes that do not have the model loaded would load it, and how soon it
// would answer.
func TestToLoad(t *testing.T) {
	const s = time.Second
	unloaded := func(load ...time.Duration) []Box {
		boxes := idle(len(load))
		for i := range boxes {
			boxes[i].Own, boxes[i].Load, boxes[i].Name = false, load[i], string(rune('a'+i))
		}
		return boxes
	}
	with := func(boxes []Box, change func(b []Box)) []Box {
		change(boxes)
		return boxes
	}
	single := Call{Model: "m", PromptTokens: 100} // 0.1 s
	hashed, _ := ToLoad(unloaded(s, s, s), single)
	for name, tc := range map[string]struct {
		boxes []Box
		want  int
		time  time.Duration
	}{
		"none is unloaded":                     {nil, -1, 0},
		"one":                                  {unloaded(4 * s), 0, 4*s + s/10 + hop},
		"some calls wait there":                {with(unloaded(4*s), func(b []Box) { b[0].Queued = 6 }), 0, 5500*time.Millisecond + s/10 + hop},
		"the own one has no hop":               {with(unloaded(4*s), func(b []Box) { b[0].Own = true }), 0, 4*s + s/10},
		"the hash decides":                     {unloaded(4*s, 4*s, 4*s), hashed, 4*s + s/10 + hop},
		"the one that loads already is sooner": {with(unloaded(s, s, s), func(b []Box) { b[(hashed+1)%3].Load, b[(hashed+1)%3].Loading = s/2, true }), (hashed + 1) % 3, s/2 + s/10 + hop},
		"it has a queue":                       {with(unloaded(s, s, s), func(b []Box) { b[(hashed+1)%3].Queued, b[(hashed+1)%3].Loading = 20, true }), hashed, s + s/10 + hop},
		"two load: the first to be done":       {with(unloaded(3*s, 9*s, 2*s), func(b []Box) { b[0].Loading, b[2].Loading = true, true }), 2, 2*s + s/10 + hop},
	} {
		t.Run(name, func(t *testing.T) {
			if got, at := ToLoad(tc.boxes, single); got != tc.want || at != tc.time {
				t.Errorf("%d in %v; want %d in %v", got, at, tc.want, tc.time)
			}
		})
	}
}

// Other models are loaded by other boxes.
func TestToLoadSpreads(t *testing.T) {
	boxes, chosen := idle(10), map[int]int{}
	for i := range 1000 {
		box, _ := ToLoad(boxes, Call{Model: string(rune(i))})
		chosen[box]++
	}
	for i := range boxes {
		if chosen[i] < 50 || chosen[i] > 150 {
			t.Errorf("box %d loads %d of 1000 models", i, chosen[i])
		}
	}
}
