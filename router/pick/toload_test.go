package pick

import (
	"testing"
	"time"
)

// TestToLoad: a box that has to load the model gets a call if it begins to answer sooner than those
// that have it loaded.
func TestToLoad(t *testing.T) {
	const s = time.Second
	single := Call{Model: "m", PromptTokens: 100}
	full := func(queued int) []Box { // a call waits 0.5 s for each one in the queue, and for one more
		return three(func(b []Box) {
			for i := range b {
				b[i].Busy, b[i].Queued = 4, queued+i
			}
		})
	}
	unloaded := func(load ...time.Duration) []Box {
		boxes := idle(len(load))
		for i := range boxes {
			boxes[i].Own, boxes[i].Load, boxes[i].Name = false, load[i], string(rune('a'+i))
		}
		return boxes
	}
	loading := func(boxes []Box, i int) []Box {
		boxes[i].Loading = true
		return boxes
	}
	hashed := toLoad(unloaded(s, s, s), "m")
	for name, tc := range map[string]struct {
		unloaded, ready []Box
		want            int
		limit           time.Duration
	}{
		"none is unloaded":               {nil, full(19), -1, 0},
		"none is ready":                  {unloaded(s), nil, -1, 0},
		"long queues":                    {unloaded(4 * s), full(19), 0, 6*s - hop}, // 10 s at the own box
		"short queues":                   {unloaded(10 * s), full(19), -1, 0},
		"one has a free slot":            {unloaded(s), three(func(b []Box) { b[0].Busy, b[0].Queued, b[1].Busy, b[1].Queued = 4, 90, 4, 90 }), -1, 0},
		"a slow one has a free slot":     {unloaded(s), three(func(b []Box) { b[0].PromptRate = .001; b[1].Busy, b[2].Busy, b[1].Queued, b[2].Queued = 4, 4, 90, 90 }), -1, 0},
		"the queue there is long, too":   {func() []Box { b := unloaded(4 * s); b[0].Queued = 20; return b }(), full(19), -1, 0},
		"some calls wait there":          {func() []Box { b := unloaded(4 * s); b[0].Queued = 6; return b }(), full(19), 0, 6*s - hop},
		"the hash decides":               {unloaded(4*s, 4*s, 4*s), full(19), hashed, 6*s - hop},
		"one loads already":              {loading(unloaded(4*s, 4*s, 4*s), (hashed+1)%3), full(19), (hashed + 1) % 3, 6*s - hop},
		"two load: the first to be done": {loading(loading(unloaded(3*s, s, 2*s), 0), 2), full(19), 2, 8*s - hop},
		"one loads and takes longer":     {loading(unloaded(s, s, 20*s), 2), full(19), -1, 0},
		"the own one has no hop":         {func() []Box { b := unloaded(4 * s); b[0].Own = true; return b }(), full(19), 0, 6 * s},
	} {
		t.Run(name, func(t *testing.T) {
			want := MaxWait{}
			if tc.want >= 0 {
				want = AtMost(tc.limit)
			}
			order := Order(tc.ready, single, seeded(1))
			if got, limit := ToLoad(tc.unloaded, single, tc.ready, order); got != tc.want || limit != want {
				t.Errorf("%d, %v; want %d, %v", got, limit, tc.want, want)
			}
		})
	}
}

// Other models are loaded by other boxes.
func TestToLoadSpreads(t *testing.T) {
	boxes, chosen := idle(10), map[int]int{}
	for i := range 1000 {
		chosen[toLoad(boxes, string(rune(i)))]++
	}
	for i := range boxes {
		if chosen[i] < 50 || chosen[i] > 150 {
			t.Errorf("box %d loads %d of 1000 models", i, chosen[i])
		}
	}
}
