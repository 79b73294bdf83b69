package placement

import (
	"testing"

	"github.com/llmsup/llmsup/gpu"
)

// TestReclaimed: how much VRAM has to be free again before the next process starts.
func TestReclaimed(t *testing.T) {
	for name, tc := range map[string]struct {
		held, freeBefore, free uint64
		bytes                  uint64
		enough                 bool
	}{
		"nothing yet":              {100, 50, 50, 0, false},
		"some":                     {100, 50, 124, 74, false},
		"three quarters":           {100, 50, 125, 75, true},
		"all":                      {100, 50, 150, 100, true},
		"more than it held":        {100, 50, 900, 100, true},
		"another one took it":      {100, 50, 20, 0, false},
		"it held nothing":          {0, 50, 50, 0, true},
		"nothing was free with it": {100, 0, 80, 80, true},
	} {
		if bytes, enough := reclaimed(tc.held, vramUse{free: tc.freeBefore}, vramUse{free: tc.free}); bytes != tc.bytes || enough != tc.enough {
			t.Errorf("%s: %d, %t; want %d, %t", name, bytes, enough, tc.bytes, tc.enough)
		}
	}
}

// TestReclaimedByOthers: VRAM that another process has taken is known to be free of the one
// that has ended, if the driver lists all processes.
func TestReclaimedByOthers(t *testing.T) {
	card := func(used uint64, processes ...gpu.Process) gpu.GPU {
		g := card(0, 24*gib-used)
		g.MemoryUsed, g.Processes, g.ProcessesKnown = &used, processes, true
		return g
	}
	of := func(pid int, bytes uint64) gpu.Process { return gpu.Process{PID: pid, Memory: &bytes} }
	unknown := card(13*gib, of(8, 12*gib), gpu.Process{PID: 9})
	inconsistent := card(13*gib, of(8, 12*gib))
	inconsistent.Inconsistent = true
	for name, tc := range map[string]struct {
		now  gpu.GPU
		back uint64 // of 8 GiB
	}{
		"it still runs":                    {card(21*gib, of(7, 8*gib), of(8, 12*gib)), 0},
		"it is not listed, and not free":   {card(21*gib, of(8, 12*gib)), 0},
		"half of it is free":               {card(17*gib, of(8, 12*gib)), 4 * gib},
		"another one has it":               {card(13*gib, of(8, 12*gib)), 8 * gib},
		"another one has it and more":      {card(23*gib, of(8, 22*gib)), 8 * gib},
		"a process whose VRAM is unknown":  {unknown, 0},
		"figures that do not fit together": {inconsistent, 0},
	} {
		before, known := useOf([]gpu.GPU{card(9*gib, of(7, 8*gib))}, []int{7})
		now, knownNow := useOf([]gpu.GPU{tc.now}, []int{7})
		if back, _ := reclaimed(8*gib, before, now); back != tc.back || !known || !knownNow {
			t.Errorf("%s: %d GiB are free again, want %d (%t, %t)", name, back/gib, tc.back/gib, known, knownNow)
		}
	}
}
