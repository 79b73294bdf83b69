package pick

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// seeded returns random numbers that are the same in each run.
func seeded(seed uint64) func(int) int { return rand.New(rand.NewPCG(seed, 1)).IntN }

// idle returns boxes without calls. The first one is the own.
func idle(n int) []Box {
	boxes := make([]Box, n)
	for i := range boxes {
		boxes[i] = Box{Name: fmt.Sprintf("box%d", i), Own: i == 0, Slots: 4, Service: 2 * time.Second, PromptRate: 1000}
	}
	return boxes
}

// three returns three idle boxes after a change.
func three(change func(b []Box)) []Box {
	boxes := idle(3)
	change(boxes)
	return boxes
}

// chatOf returns a call of a conversation whose home is one of n idle boxes.
func chatOf(box, n int) Call {
	c := Call{Model: "m", PromptTokens: 5000, EarlierTokens: 4000}
	for boxes := idle(n); c.Conversation == 0 || home(boxes, &c) != box; c.Conversation++ {
	}
	return c
}

func indices(choices []Choice) (all []int) {
	for _, choice := range choices {
		all = append(all, choice.Box)
	}
	return all
}

func TestOrder(t *testing.T) {
	single, away := Call{PromptTokens: 100}, chatOf(2, 3)
	for name, tc := range map[string]struct {
		boxes []Box
		call  Call
		want  []int // the first ones; those that are equal follow in random order
	}{
		"no box":             {nil, single, nil},
		"one box":            {idle(1), single, []int{0}},
		"all are idle":       {idle(3), single, []int{0}},
		"the own has a slot": {three(func(b []Box) { b[0].Busy, b[2].Busy = 3, 9 }), single, []int{0, 1, 2}},
		"the own is slow":    {three(func(b []Box) { b[0].PromptRate, b[2].PromptRate = 10, 500 }), single, []int{0, 1, 2}},
		"the own is full":    {three(func(b []Box) { b[0].Busy, b[2].Busy, b[2].Queued = 4, 4, 4 }), single, []int{1, 0, 2}},
		"all are full":       {three(func(b []Box) { b[0].Busy, b[0].Queued, b[1].Busy, b[1].Queued, b[2].Busy = 4, 2, 4, 1, 4 }), single, []int{2, 1, 0}},
		"the own is fastest": {three(func(b []Box) { b[0].Busy, b[1].Busy, b[2].Busy, b[2].Queued = 4, 4, 4, 1 }), single, []int{0, 1, 2}},
		"long calls":         {three(func(b []Box) { b[0].Busy, b[0].Queued, b[1].Busy, b[2].Busy, b[1].Service = 4, 9, 4, 4, time.Minute }), single, []int{2, 0, 1}},
		"one is slow":        {three(func(b []Box) { b[0].Busy, b[1].PromptRate = 4, 10 }), single, []int{2, 0, 1}},
		"unknown figures":    {three(func(b []Box) { b[0].Busy, b[1] = 4, Box{Name: "box1", Busy: 5} }), single, []int{2, 0, 1}},
		"at home":            {idle(3), away, []int{2, 0, 1}},
		"home is worth it":   {three(func(b []Box) { b[2].Busy, b[2].Queued, b[1].Busy = 4, 7, 4 }), away, []int{2, 0, 1}},
		"home is busy":       {three(func(b []Box) { b[2].Busy, b[2].Queued, b[1].Busy = 4, 8, 4 }), away, []int{2, 0, 1}},
		"home is the own":    {idle(3), chatOf(0, 3), []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				got := indices(Order(tc.boxes, tc.call, seeded(seed)))
				all := slices.Sorted(slices.Values(got))
				if len(got) != len(tc.boxes) || !slices.Equal(got[:len(tc.want)], tc.want) || len(slices.Compact(all)) != len(got) {
					t.Fatalf("%v, want %v", got, tc.want)
				}
			}
		})
	}
}

// Equal boxes get equal numbers of the calls that the own box has no slot for.
func TestEqualBoxes(t *testing.T) {
	boxes, random, first := idle(10), seeded(1), map[int]int{}
	boxes[0].Busy = 4
	for range 9000 {
		first[Order(boxes, Call{}, random)[0].Box]++
	}
	for i := 1; i < 10; i++ {
		if first[i] < 900 || first[i] > 1100 {
			t.Errorf("box %d got %d of 9000 calls", i, first[i])
		}
	}
}

// Of a large fleet, the own box and the home are always looked at.
func TestLargeFleet(t *testing.T) {
	chat := chatOf(700, 1000)
	boxes, random := idle(1000), seeded(1)
	for range 100 {
		got := indices(Order(boxes, chat, random))
		if len(got) != MaxAsked || got[0] != 700 || !slices.Contains(got, 0) || len(slices.Compact(slices.Sorted(slices.Values(got)))) != MaxAsked {
			t.Fatalf("%v", got)
		}
	}
}

// A box that leaves moves its own conversations only, and each box is the home of its share.
func TestHome(t *testing.T) {
	all, moved, homes := idle(10), 0, map[int]int{}
	for i := range uint64(10_000) {
		c := Call{Conversation: i + 1, Model: "m"}
		before, after := home(all, &c), home(all[:9], &c)
		if before != after && before != 9 {
			t.Fatalf("a conversation moved from box %d to box %d", before, after)
		}
		if before != after {
			moved++
		}
		homes[before]++
	}
	for i, n := range homes {
		if n < 850 || n > 1150 {
			t.Errorf("box %d is the home of %d of 10000 conversations", i, n)
		}
	}
	if moved != homes[9] {
		t.Errorf("%d moved, and the box was the home of %d", moved, homes[9])
	}
	if h := home(idle(3), &Call{Model: "m"}); h != -1 {
		t.Errorf("a call without an earlier turn has the home %d", h)
	}
}

// All versions have to find the same home.
func TestHomeIsStable(t *testing.T) {
	for conversation, want := range map[uint64]int{1: 3, 2: 6, 3: 8} {
		if got := home(idle(10), &Call{Conversation: conversation, Model: "m"}); got != want {
			t.Errorf("conversation %d: %d, want %d", conversation, got, want)
		}
	}
}

func TestMaxWait(t *testing.T) {
	away := chatOf(2, 3)
	for name, tc := range map[string]struct {
		boxes []Box
		want  time.Duration // that the call waits at most at its home
	}{
		"the own begins": {idle(3), 4*time.Second - hop}, // that it takes to process what the home has cached
		"all are busy":   {three(func(b []Box) { b[0].Busy, b[0].Queued, b[1].Busy = 4, 7, 6 }), 5500 * time.Millisecond},
		"a slow home":    {three(func(b []Box) { b[2].PromptRate = 100 }), 0}, // 10 s there, 5 s at the own box
	} {
		t.Run(name, func(t *testing.T) {
			for at, choice := range Order(tc.boxes, away, seeded(1)) {
				want := AtMost(0)
				if at == 0 {
					want = AtMost(tc.want)
				}
				if (at == 0) != (choice.Box == 2) || choice.MaxWait != want {
					t.Errorf("choice %d: %+v, want %v", at, choice, want)
				}
			}
		})
	}
}

func TestOrderAllocates(t *testing.T) {
	chat := Call{Conversation: 1, Model: "m", PromptTokens: 10}
	for _, n := range []int{2, 16, 1000} {
		boxes, random := idle(n), seeded(1)
		if got := testing.AllocsPerRun(100, func() { Order(boxes, chat, random) }); got > 1 {
			t.Errorf("%d boxes: %v allocations", n, got)
		}
	}
}

func BenchmarkOrder(b *testing.B) {
	chat := Call{Conversation: 1, Model: "m", PromptTokens: 10}
	for _, n := range []int{3, 16, 1000} {
		boxes, random := idle(n), seeded(1)
		boxes[0].Busy = 4
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Order(boxes, chat, random)
			}
		})
	}
}
