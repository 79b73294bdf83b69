package placement

import (
	"slices"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

// TestSharesOn: a need is split evenly over the GPUs of a model, each of which has buffers of
// its own; a configured need replaces the estimate.
func TestSharesOn(t *testing.T) {
	held := card(0, 4*gib)
	held.Processes = []gpu.Process{{PID: 7, Memory: new(3 * gib)}, {PID: 8, Memory: new(gib)}, {PID: 9, Memory: new(9 * gib)}}
	two := []gpu.GPU{held, card(1, 20*gib)}
	need := vram.Need{Weights: 8 * gib, Compute: gib}
	for name, tc := range map[string]struct {
		need     vram.Need
		entry    config.Server
		selector string
		want     []Share
	}{
		"on all GPUs":           {need, config.Server{}, "", []Share{{"GPU-a", 5 * gib, 4 * gib}, {"GPU-b", 5 * gib, 0}}},
		"on one of them":        {need, config.Server{}, "1", []Share{{"GPU-b", 9 * gib, 0}}},
		"by its arguments":      {need, config.Server{Args: []string{"--split-mode", "none"}}, "0,1", []Share{{"GPU-a", 9 * gib, 4 * gib}}},
		"configured":            {need, config.Server{VRAM: config.ByteSize(6 * gib)}, "1", []Share{{"GPU-b", 6 * gib, 0}}},
		"probably less":         {vram.Need{Weights: 8 * gib, Overestimated: true}, config.Server{}, "1", []Share{{"GPU-b", 0, 0}}},
		"on no GPU":             {need, config.Server{}, gpu.None, nil},
		"on one that is absent": {need, config.Server{}, "7", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Workload{entry: tc.entry, selector: tc.selector, need: tc.need}
			if got, known := w.sharesOn(&gpu.Sample{At: time.Now(), GPUs: two}, []int{7, 8}); known || got != nil {
				t.Errorf("before the estimate: %v", got)
			}
			w.estimated = "v1"
			if got, known := w.sharesOn(&gpu.Sample{GPUs: two}, []int{7, 8}); known || got != nil {
				t.Errorf("before the first sample: %v", got)
			}
			if got, known := w.sharesOn(&gpu.Sample{At: time.Now(), GPUs: two}, []int{7, 8}); !known || !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
