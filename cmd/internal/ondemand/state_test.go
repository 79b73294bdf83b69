package ondemand

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// TestLeaveTime: the time until a model's VRAM is free is that of its calls, as far as the drain
// lets them run, and of the release.
func TestLeaveTime(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		now   supervisor.Snapshot
		calls Calls
		ended time.Duration // ago
		want  time.Duration
	}{
		"idle":                          {supervisor.Snapshot{State: ready, PID: 1}, Calls{Service: time.Minute}, 0, releaseTime},
		"busy":                          {supervisor.Snapshot{State: ready, PID: 1}, Calls{InFlight: 2, Bound: 1, Service: time.Minute}, 0, time.Minute + releaseTime},
		"busy, for how long?":           {supervisor.Snapshot{State: ready, PID: 1}, Calls{InFlight: 2}, 0, defaultService + releaseTime},
		"its calls continue elsewhere":  {supervisor.Snapshot{State: ready, PID: 1}, Calls{InFlight: 2, Service: time.Minute}, 0, drainBound + releaseTime},
		"they will soon":                {supervisor.Snapshot{State: unloading, PID: 1, Since: now.Add(-25 * time.Second)}, Calls{InFlight: 2, Service: time.Minute}, 0, 5*time.Second + releaseTime},
		"its process has ended":         {supervisor.Snapshot{State: unloaded}, Calls{}, time.Second, releaseTime - time.Second},
		"its process ended a while ago": {supervisor.Snapshot{State: unloaded}, Calls{}, time.Minute, 0},
	} {
		m := &model{now: &tc.now, calls: tc.calls, endedAt: now.Add(-tc.ended)}
		if got := m.leaveTime(now); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
