package serverreport

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/supervisor"
)

// TestAddLoad: progress and time left come from the loads before, and are unknown without
// one, and in a load that takes longer.
func TestAddLoad(t *testing.T) {
	clock := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return clock.Add(time.Duration(seconds) * time.Second) }
	const load = 20 * time.Second
	measured := ondemand.Figures{LoadTime: load}
	for name, tc := range map[string]struct {
		now      supervisor.Snapshot
		figures  ondemand.Figures
		progress float64   // 0 = unknown
		ready    time.Time // zero = unknown
	}{
		"loading":                         {supervisor.Snapshot{State: supervisor.Loading, Since: at(-5)}, measured, 0.25, at(15)},
		"loading, measured by its server": {supervisor.Snapshot{State: supervisor.Loading, Since: at(-5), LoadDuration: load}, ondemand.Figures{}, 0.25, at(15)},
		"loading for the first time":      {supervisor.Snapshot{State: supervisor.Loading, Since: at(-5)}, ondemand.Figures{}, 0, time.Time{}},
		"loading for longer than before":  {supervisor.Snapshot{State: supervisor.Loading, Since: at(-21)}, measured, 0, time.Time{}},
		"starting":                        {supervisor.Snapshot{State: supervisor.Starting, Since: at(-1)}, measured, 0, at(20)},
		"starting once there is VRAM":     {supervisor.Snapshot{State: supervisor.Starting, Reason: "GPU 0 has 1 GiB free"}, measured, 0, time.Time{}},
		"pause before the next start":     {supervisor.Snapshot{State: supervisor.Restarting, NextStart: at(4)}, measured, 0, at(24)},
		"unloaded":                        {supervisor.Snapshot{State: supervisor.Unloaded, UnloadRequested: true}, measured, 0, time.Time{}},
		"unloaded, and calls wait":        {supervisor.Snapshot{State: supervisor.Unloaded}, ondemand.Figures{LoadTime: load, Wait: &scheduler.Wait{Ready: at(50)}}, 0, at(50)},
		"unloaded, and it never fits":     {supervisor.Snapshot{State: supervisor.Unloaded}, ondemand.Figures{LoadTime: load, Wait: &scheduler.Wait{Never: true}}, 0, time.Time{}},
		"drained for a time":              {supervisor.Snapshot{State: supervisor.Drained, DrainRequested: true, DrainEnds: at(100)}, measured, 0, at(120)},
		"drained":                         {supervisor.Snapshot{State: supervisor.Drained, DrainRequested: true}, measured, 0, time.Time{}},
		"replaced once its calls end":     {supervisor.Snapshot{State: supervisor.Draining}, measured, 0, time.Time{}},
		"ready":                           {supervisor.Snapshot{State: supervisor.Ready}, measured, 0, time.Time{}},
		"failed":                          {supervisor.Snapshot{State: supervisor.Failed}, measured, 0, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			var got control.Server
			addLoad(&got, &tc.now, tc.figures, plan.Load{}, clock)
			if progress := deref(got.LoadProgress); progress != tc.progress {
				t.Errorf("progress %v, want %v", progress, tc.progress)
			}
			if ready := deref(got.ReadyExpected); !ready.Equal(tc.ready) {
				t.Errorf("ready at %s, want %s", ready, tc.ready)
			}
			if got.WaitingForModel != 0 || got.WaitingSince != nil {
				t.Errorf("%d calls wait, since %v", got.WaitingForModel, got.WaitingSince)
			}
		})
	}
	var got control.Server
	addLoad(&got, &supervisor.Snapshot{State: supervisor.Loading}, measured, plan.Load{ForModel: 2, ForModelSince: at(-3)}, clock)
	if got.WaitingForModel != 2 || !deref(got.WaitingSince).Equal(at(-3)) {
		t.Errorf("%d calls wait, since %v", got.WaitingForModel, got.WaitingSince)
	}
}

func TestReading(t *testing.T) {
	for name, tc := range map[string]struct {
		read, size uint64
		want       string
	}{
		"unknown":                     {0, 9 << 30, ""},
		"some":                        {3 << 30, 9 << 30, "3.0 GiB of the model's 9.0 GiB are read"},
		"all, and the program's own":  {9<<30 + 20<<20, 9 << 30, "all of the model's 9.0 GiB are read"},
		"a small file, and not of it": {200 << 10, 2 << 20, "0 MiB of the model's 2 MiB are read"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reading(tc.read, tc.size); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// deref returns what a pointer points to; the zero value for nil.
func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}
