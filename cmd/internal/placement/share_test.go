package placement

import (
	"cmp"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/units"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

// TestPlacements: a need is split evenly over the GPUs of a model, each of which has buffers of
// its own; a configured need replaces the estimate. A model that is loaded on demand can be on
// each single GPU, unless something else chooses its GPUs.
func TestPlacements(t *testing.T) {
	held := card(0, 4*gib)
	held.Processes = []gpu.Process{{PID: 7, Memory: new(3 * gib)}, {PID: 8, Memory: new(gib)}, {PID: 9, Memory: new(9 * gib)}}
	two := []gpu.GPU{held, card(1, 20*gib)}
	unknown := card(1, 0)
	unknown.MemoryFree = nil
	need := vram.Need{Weights: 8 * gib, Compute: gib}
	a, b := Share{"GPU-a", 9 * gib, 4 * gib}, Share{"GPU-b", 9 * gib, 0}
	both := []Share{{"GPU-a", 5 * gib, 4 * gib}, {"GPU-b", 5 * gib, 0}}
	only := func(shares ...Share) []Placement { return []Placement{{shares, false, true}} }
	onDemand := config.Server{Load: config.LoadOnDemand}
	for name, tc := range map[string]struct {
		need     vram.Need
		entry    config.Server
		selector string
		placed   []string
		gpus     []gpu.GPU
		env      string
		measured uint64
		want     []Placement
	}{
		"on all GPUs":           {need: need, want: only(both...)},
		"on one of them":        {need: need, selector: "1", want: only(b)},
		"by its arguments":      {need: need, entry: config.Server{Args: []string{"--split-mode", "none"}}, selector: "0,1", want: only(a)},
		"configured":            {need: need, entry: config.Server{VRAM: units.ByteSize(6 * gib)}, selector: "1", want: only(Share{"GPU-b", 6 * gib, 0})},
		"configured, measured":  {need: need, entry: config.Server{VRAM: units.ByteSize(6 * gib)}, measured: 4 * gib, selector: "1", want: only(Share{"GPU-b", 4 * gib, 0})},
		"estimated, measured":   {need: need, measured: 4 * gib, selector: "1", want: only(b)},
		"probably less":         {need: vram.Need{Weights: 8 * gib, Overestimated: true}, selector: "1", want: only(Share{"GPU-b", 0, 0})},
		"on no GPU":             {need: need, selector: gpu.None},
		"on one that is absent": {need: need, selector: "7"},

		"on demand":                   {need: need, entry: onDemand, want: []Placement{{[]Share{a}, true, false}, {[]Share{b}, true, false}, {both, false, true}}},
		"it has been placed":          {need: need, entry: onDemand, placed: []string{"GPU-b"}, want: []Placement{{[]Share{a}, true, false}, {[]Share{b}, true, true}, {both, false, false}}},
		"its GPU is lost":             {need: need, entry: onDemand, placed: []string{"GPU-a"}, gpus: []gpu.GPU{lostCard(0), two[1]}, want: []Placement{{[]Share{b}, true, false}}},
		"another GPU is lost":         {need: need, entry: onDemand, gpus: []gpu.GPU{lostCard(0), two[1]}, want: []Placement{{[]Share{b}, true, true}}},
		"there is only one GPU":       {need: need, entry: onDemand, gpus: two[:1], want: only(a)},
		"on demand, bound":            {need: need, entry: onDemand, selector: "1", want: only(b)},
		"on demand, bound to both":    {need: need, entry: config.Server{Load: config.LoadOnDemand, GPU: "0,1"}, selector: "0,1", want: only(both...)},
		"on demand, of some GPUs":     {need: need, entry: onDemand, selector: "0,1", placed: []string{"GPU-a"}, gpus: append(slices.Clone(two), card(2, 9*gib)), want: []Placement{{[]Share{a}, true, true}, {[]Share{b}, true, false}, {both, false, false}}},
		"on demand, by its arguments": {need: need, entry: config.Server{Load: config.LoadOnDemand, Args: []string{"-ts", "1,1"}}, want: only(both...)},
		"on demand, by a variable":    {need: need, entry: onDemand, env: "0", want: only(both...)},
		"its need is not known":       {entry: onDemand, want: only(Share{"GPU-a", 0, 4 * gib}, Share{"GPU-b", 0, 0})},
		"free VRAM is not known":      {need: need, entry: onDemand, gpus: []gpu.GPU{held, unknown}, want: only(both...)},
		"no longer on demand":         {need: need, placed: []string{"GPU-b"}, want: []Placement{{[]Share{b}, true, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(visibleDevices, tc.env)
			gpus := two
			if tc.gpus != nil {
				gpus = tc.gpus
			}
			pool := NewPool(gpu.NewNull(), func(_ string, configured uint64) uint64 { return cmp.Or(tc.measured, configured) }, zerolog.Nop())
			w := &Workload{pool: pool, entry: tc.entry, selector: tc.selector, placed: tc.placed, need: tc.need}
			if got, known := w.Placements(&gpu.Sample{At: time.Now(), GPUs: gpus}, []int{7, 8}); known || got != nil {
				t.Errorf("before the estimate: %v", got)
			}
			w.estimated = "v1"
			if got, known := w.Placements(&gpu.Sample{GPUs: gpus}, []int{7, 8}); known || got != nil {
				t.Errorf("before the first sample: %v", got)
			}
			if got, known := w.Placements(&gpu.Sample{At: time.Now(), GPUs: gpus}, []int{7, 8}); !known || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
