package readiness

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/supervisor"
)

// TestReturning: which states end without an operator, so that a call without another
// backend waits, and when.
func TestReturning(t *testing.T) {
	clock := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return clock.Add(time.Duration(seconds) * time.Second) }
	const load = 20 * time.Second
	for name, tc := range map[string]struct {
		now       supervisor.Snapshot
		reason    backend.Reason
		returning bool
		readyAt   time.Time // zero = unknown
	}{
		"about to start":                     {supervisor.Snapshot{State: supervisor.Stopped}, backend.Starting, true, time.Time{}},
		"removed by a reload":                {supervisor.Snapshot{State: supervisor.Stopped, Removed: true, LoadDuration: load}, backend.Drained, false, time.Time{}},
		"starting":                           {supervisor.Snapshot{State: supervisor.Starting}, backend.Starting, true, time.Time{}},
		"starting again":                     {supervisor.Snapshot{State: supervisor.Starting, LoadDuration: load}, backend.Starting, true, at(20)},
		"first load":                         {supervisor.Snapshot{State: supervisor.Loading, Since: at(-7)}, backend.Loading, true, at(7)},
		"second load":                        {supervisor.Snapshot{State: supervisor.Loading, Since: at(-7), LoadDuration: load}, backend.Loading, true, at(13)},
		"pause before the next start":        {supervisor.Snapshot{State: supervisor.Restarting, NextStart: at(4), LoadDuration: load}, backend.Restarting, true, at(24)},
		"removed, with calls that end first": {supervisor.Snapshot{State: supervisor.Draining, Removed: true, LoadDuration: load}, backend.Draining, false, time.Time{}},
		"pause before the first load":        {supervisor.Snapshot{State: supervisor.Restarting, NextStart: at(60)}, backend.Restarting, true, at(60)},
		"end of the pause":                   {supervisor.Snapshot{State: supervisor.Restarting, NextStart: at(-1), LoadDuration: load}, backend.Restarting, true, at(20)},
		"replaced":                           {supervisor.Snapshot{State: supervisor.Draining, LoadDuration: load}, backend.Draining, true, at(20)},
		"drained until an hour":              {supervisor.Snapshot{State: supervisor.Draining, DrainRequested: true, DrainEnds: at(3600), LoadDuration: load}, backend.Draining, false, at(3620)},
		"drained until llmsup resume":        {supervisor.Snapshot{State: supervisor.Drained, DrainRequested: true, LoadDuration: load}, backend.Drained, false, time.Time{}},
		"drained while it was loading":       {supervisor.Snapshot{State: supervisor.Loading, DrainRequested: true, LoadDuration: load}, backend.Loading, false, time.Time{}},
		"resumed with its process":           {supervisor.Snapshot{State: supervisor.Drained, LoadDuration: load}, backend.Drained, true, at(20)},
		"unloaded":                           {supervisor.Snapshot{State: supervisor.Unloaded, UnloadRequested: true}, backend.Unloaded, true, time.Time{}},
		"unloading":                          {supervisor.Snapshot{State: supervisor.Unloading, UnloadRequested: true, LoadDuration: load}, backend.Unloaded, true, at(20)},
		"failed":                             {supervisor.Snapshot{State: supervisor.Failed, LoadDuration: load}, backend.Failed, false, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reasonOf(&tc.now); got != tc.reason {
				t.Errorf("reason %s, want %s", got, tc.reason)
			}
			if got := returning(&tc.now); got != tc.returning {
				t.Errorf("returning: %t, want %t", got, tc.returning)
			}
			if got := readyAt(&tc.now, tc.now.LoadDuration, clock); !got.Equal(tc.readyAt) {
				t.Errorf("ready at %s, want %s", got, tc.readyAt)
			}
		})
	}
}

// TestUnloaded: a call waits for a model that is not loaded, until it is expected, unless it
// can never be loaded.
func TestUnloaded(t *testing.T) {
	clock := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	at := clock.Add(30 * time.Second)
	for name, tc := range map[string]struct {
		figures   ondemand.Figures
		returning bool
		want      bool
		readyAt   time.Time // zero = unknown
	}{
		"never loaded so far":     {ondemand.Figures{}, true, true, time.Time{}},
		"its load time is known":  {ondemand.Figures{LoadTime: 30 * time.Second}, true, true, at},
		"it waits":                {ondemand.Figures{LoadTime: time.Second, Wait: &scheduler.Wait{Ready: at}}, true, true, at},
		"it waits, for how long?": {ondemand.Figures{LoadTime: time.Second, Wait: &scheduler.Wait{}}, true, true, at},
		"it never fits":           {ondemand.Figures{LoadTime: time.Second, Wait: &scheduler.Wait{Never: true}}, true, false, time.Time{}},
		"a reload has removed it": {ondemand.Figures{LoadTime: time.Second}, false, false, time.Time{}},
	} {
		if got, readyAt := unloaded(tc.figures, tc.returning, clock); got != tc.want || !readyAt.Equal(tc.readyAt) {
			t.Errorf("%s: returning %t, ready at %s", name, got, readyAt)
		}
	}
}
