package placement

import (
	"slices"
	"testing"

	"github.com/llmsup/llmsup/gpu"
)

func TestParts(t *testing.T) {
	const gib = 1 << 30
	owners := []Owner{{"qwen", []int{10, 11}}, {"whisper", []int{20}}, {"unloaded", nil}}
	holds := func(pid int, gibs uint64) gpu.Process { return gpu.Process{PID: pid, Memory: new(gibs * gib)} }
	for name, tc := range map[string]struct {
		total, free *uint64
		processes   []gpu.Process
		want        []Part
	}{
		"empty": {new(uint64(24 * gib)), new(uint64(24 * gib)), nil, []Part{{Free, "", 24 * gib}}},
		"a server of two processes, another one, and foreign ones": {
			new(uint64(24 * gib)), new(uint64(9 * gib)),
			[]gpu.Process{holds(20, 2), holds(11, 1), holds(10, 8), holds(7, 1), holds(8, 2)},
			[]Part{{HeldByServer, "qwen", 9 * gib}, {HeldByServer, "whisper", 2 * gib}, {HeldByForeign, "", 3 * gib}, {HeldByUnlisted, "", gib}, {Free, "", 9 * gib}},
		},
		"a process that has ended": {new(uint64(24 * gib)), new(uint64(15 * gib)), nil, []Part{{HeldByUnlisted, "", 9 * gib}, {Free, "", 15 * gib}}},
		"a process of unknown size": {
			new(uint64(24 * gib)), new(uint64(15 * gib)),
			[]gpu.Process{{PID: 10}, holds(7, 1)},
			[]Part{{HeldByForeign, "", gib}, {HeldByUnlisted, "", 8 * gib}, {Free, "", 15 * gib}},
		},
		"full":                      {new(uint64(24 * gib)), new(uint64(0)), []gpu.Process{holds(10, 24)}, []Part{{HeldByServer, "qwen", 24 * gib}}},
		"processes that share some": {new(uint64(24 * gib)), new(uint64(4 * gib)), []gpu.Process{holds(10, 15), holds(20, 7)}, []Part{{HeldByServer, "qwen", 15 * gib}, {HeldByServer, "whisper", 7 * gib}, {Free, "", 2 * gib}}},
		"more than there is":        {new(uint64(24 * gib)), new(uint64(4 * gib)), []gpu.Process{holds(10, 15), holds(7, 15)}, []Part{{HeldByServer, "qwen", 15 * gib}, {HeldByForeign, "", 9 * gib}}},
		"unknown total":             {nil, new(uint64(gib)), nil, nil},
		"unknown free":              {new(uint64(gib)), nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := Parts(gpu.GPU{MemoryTotal: tc.total, MemoryFree: tc.free, Processes: tc.processes}, owners)
			if !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
