package supervisor

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor/process"
)

// sleepingEngine is an engine that can sleep. It counts how often it sleeps and is woken.
type sleepingEngine struct {
	fakeEngine
	sleeps, wakes atomic.Int64
	failure       error         // of sleeping
	takes         time.Duration // to sleep, and to wake
}

func (e *sleepingEngine) Probe(Endpoint, models.Description, time.Duration) Probe { return e }

func (e *sleepingEngine) Sleep(context.Context) error {
	time.Sleep(e.takes)
	e.sleeps.Add(1)
	return e.failure
}

func (e *sleepingEngine) Wake(context.Context) error {
	time.Sleep(e.takes)
	e.wakes.Add(1)
	return nil
}

// wantAsleep checks that the model is unloaded and its process is not.
func wantAsleep(t *testing.T, s *Server) {
	t.Helper()
	if now := wantState(t, s, Unloaded, forAnother); now.PID == 0 || !now.UnloadRequested {
		t.Errorf("asleep, and the snapshot says %+v", now)
	}
}

// TestSleep: an engine that can sleep keeps its process when its model is unloaded, and is
// woken when it is loaded.
func TestSleep(t *testing.T) {
	for name, tc := range map[string]struct {
		failure error
		then    func(t *testing.T, s *Server, e *sleepingEngine, end func())
	}{
		"loaded again": {nil, func(t *testing.T, s *Server, e *sleepingEngine, _ func()) {
			wantAsleep(t, s)
			s.Load()
			time.Sleep(2 * time.Second)
			wantState(t, s, Loading, "it takes its VRAM again")
			time.Sleep(4 * time.Second)
			if now := wantState(t, s, Ready, ""); now.LoadDuration != 5*time.Second || now.Restarts != 0 || e.wakes.Load() != 1 {
				t.Errorf("%d wakes: %+v", e.wakes.Load(), now)
			}
		}},
		"it fails to sleep": {errors.New("no luck"), func(t *testing.T, s *Server, _ *sleepingEngine, _ func()) {
			wantUnloaded(t, s)
		}},
		"it ends meanwhile": {nil, func(t *testing.T, s *Server, _ *sleepingEngine, end func()) {
			end()
			time.Sleep(time.Second)
			wantUnloaded(t, s)
			s.Load()
			time.Sleep(time.Second)
			wantState(t, s, Ready, "")
		}},
		"drained meanwhile": {nil, func(t *testing.T, s *Server, _ *sleepingEngine, _ func()) {
			s.Drain(DrainOptions{Reason: byHand})
			time.Sleep(time.Second)
			wantDrained(t, s)
			s.Resume()
			time.Sleep(time.Second)
			wantUnloaded(t, s)
		}},
		"removed meanwhile": {nil, func(t *testing.T, s *Server, _ *sleepingEngine, _ func()) {
			s.Remove()
			time.Sleep(time.Second)
			wantState(t, s, Stopped, "no longer in the configuration")
		}},
		"unloaded while it wakes": {nil, func(t *testing.T, s *Server, e *sleepingEngine, _ func()) {
			s.Load()
			time.Sleep(2 * time.Second)
			s.Unload(DrainOptions{Reason: forAnother})
			time.Sleep(20 * time.Second)
			wantAsleep(t, s)
			if e.wakes.Load() != 1 || e.sleeps.Load() != 2 {
				t.Errorf("%d wakes, %d sleeps", e.wakes.Load(), e.sleeps.Load())
			}
		}},
		"asleep for days, answering nothing": {nil, func(t *testing.T, s *Server, e *sleepingEngine, _ func()) {
			time.Sleep(48 * time.Hour)
			wantAsleep(t, s)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{})
				end := crashes(s, process.Exit{Code: 1})
				e := &sleepingEngine{fakeEngine: fakeEngine{sample: Sample{HTTPAnswers: true, EngineAnswers: true}}, failure: tc.failure, takes: 5 * time.Second}
				if name == "asleep for days, answering nothing" {
					e.sample = Sample{Opaque: true}
				}
				s.engine = e
				stop := runServer(t, s)
				time.Sleep(time.Second)
				gone := s.Snapshot().Exited
				s.Unload(DrainOptions{Reason: forAnother})
				time.Sleep(2 * time.Second)
				wantState(t, s, Unloading, forAnother+"; it releases its VRAM first")
				<-gone
				s.Load() // it must not be cut short
				time.Sleep(time.Second)
				s.Unload(DrainOptions{Reason: forAnother})
				time.Sleep(10 * time.Second)
				if e.sleeps.Load() != 1 {
					t.Errorf("it has slept %d times", e.sleeps.Load())
				}
				tc.then(t, s, e, end)
				stop()
			})
		})
	}
}
