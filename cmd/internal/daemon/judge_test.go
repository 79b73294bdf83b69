package daemon

import (
	"testing"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

// TestStatusDoesNotWaitForProc: what a server's processes have open is read while
// nothing is locked that Status needs, and only where there is a GPU.
func TestStatusDoesNotWaitForProc(t *testing.T) {
	const uuid = "GPU-1"
	for name, tc := range map[string]struct {
		gpus []gpu.GPU
		want int // times that it is read
	}{
		"not listed on its GPU": {[]gpu.GPU{{UUID: uuid}}, 1},
		"listed there":          {[]gpu.GPU{{UUID: uuid, ProcessesKnown: true, Processes: []gpu.Process{{PID: 7}}}}, 0},
		"no GPU":                {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			served := &tenant{house: &house{monitor: gpu.NewNull()}}
			read := 0
			open := func() bool {
				read++
				if !served.mu.TryLock() {
					t.Error("Status would wait for it")
				} else {
					served.mu.Unlock()
				}
				return true
			}
			now := &supervisor.Snapshot{State: supervisor.Ready, PID: 7, Gone: make(chan struct{})}
			facts := served.observe(&gpu.Sample{GPUs: tc.gpus}, now, []int{7}, open, 0)
			if read != tc.want || facts.HasOpen != (tc.want > 0) || facts.PID != 7 {
				t.Errorf("read %d times, want %d: %+v", read, tc.want, facts)
			}
		})
	}
}
