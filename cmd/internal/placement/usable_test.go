package placement

import (
	"testing"

	"github.com/llmsup/llmsup/gpu"
)

// TestUsable: a need is usable if it has room with its margin, and the next larger one has not.
func TestUsable(t *testing.T) {
	const gib = 1 << 30
	process := func(pid int, memory uint64) gpu.Process { return gpu.Process{PID: pid, Memory: &memory} }
	for name, tt := range map[string]struct {
		free      uint64
		processes []gpu.Process
		leaving   []int
		want      uint64
	}{
		"no process":                      {free: 24 * gib, want: 24 * gib},
		"another process":                 {free: 20 * gib, processes: []gpu.Process{process(1, 4*gib)}, want: 20*gib - Margin},
		"all others leave":                {free: 20 * gib, processes: []gpu.Process{process(1, 4*gib)}, leaving: []int{1}, want: 24 * gib},
		"one of them leaves":              {free: 18 * gib, processes: []gpu.Process{process(1, 4*gib), process(2, 2*gib)}, leaving: []int{2}, want: 20*gib - Margin},
		"a process of unknown size":       {free: 20 * gib, processes: []gpu.Process{{PID: 1}}, want: 20 * gib},
		"less is free than the margin":    {free: 1 << 20, processes: []gpu.Process{process(1, 4*gib)}, want: 0},
		"one that leaves has no memory":   {free: 24 * gib, leaving: []int{7}, want: 24 * gib},
		"the driver's own part is in use": {free: 23 * gib, processes: []gpu.Process{process(1, gib)}, leaving: []int{1}, want: 24 * gib},
	} {
		t.Run(name, func(t *testing.T) {
			g := gpu.GPU{MemoryFree: &tt.free, Processes: tt.processes}
			got, known := Usable(g, tt.leaving)
			if got != tt.want || !known {
				t.Fatalf("%d, want %d", got, tt.want)
			}
			room := tt.free + heldOn(g, tt.leaving)
			if WithMargin(got, g) > room && got > 0 || WithMargin(got+1, g) <= room {
				t.Errorf("with its margin %d needs %d of %d, and one byte more %d", got, WithMargin(got, g), room, WithMargin(got+1, g))
			}
		})
	}
	if _, known := Usable(gpu.GPU{}, nil); known {
		t.Error("what is free is not known")
	}
}
