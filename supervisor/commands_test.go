package supervisor

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

// TestReconfigure: the calls end first, and then there is another process on
// another model under the old name.
func TestReconfigure(t *testing.T) {
	var calls atomic.Int64
	traffic := func() Traffic { return Traffic{Calls: int(calls.Load()), Bytes: time.Now().UnixNano()} }
	inVirtualTime(t, Spec{Model: "/old.gguf", Traffic: traffic}, func(s *Server) {
		time.Sleep(time.Second)
		calls.Store(1)
		s.Reconfigure(Spec{Name: "other", Dir: "/elsewhere", Model: "/new.gguf", CtxSize: 1, Traffic: traffic})
		time.Sleep(time.Minute)
		if now := wantState(t, s, Draining, "its configuration has changed"); now.Model != "/old.gguf" {
			t.Errorf("while it drains, its model is %s", now.Model)
		}
		calls.Store(0)
		time.Sleep(time.Minute)
		if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" || now.Name != "x" || now.Restarts != 1 || now.LastExit != nil {
			t.Errorf("%+v", now)
		}
		if s.spec.Dir == "/elsewhere" {
			t.Error("its folder has changed")
		}
	})
}

// TestRemove: a removed server, in whatever state, ends up without a process, until
// ctx ends or Reconfigure takes the removal back.
func TestRemove(t *testing.T) {
	for name, before := range map[string]func(*Server){
		"ready":      func(*Server) {},
		"failed":     func(s *Server) { failsFast(s, process.Exit{Code: 1}, ModelCorrupt) },
		"restarting": func(s *Server) { failsFast(s, process.Exit{Code: 1}, "") },
		"waiting":    func(s *Server) { s.spec.GPU = fakeGPU{admit: func() string { return "no room" }} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{})
				staysUp(s, nil)
				before(s)
				stop := runServer(t, s)
				time.Sleep(time.Hour)
				s.Remove()
				time.Sleep(time.Second)
				wantState(t, s, Stopped, "no longer in the configuration")
				s.UpdateSpec(Spec{Model: "/new.gguf"})
				time.Sleep(time.Hour)
				if now := wantState(t, s, Stopped, "no longer in the configuration"); !now.Removed {
					t.Error("the snapshot does not say that it is removed")
				}
				staysUp(s, nil)
				s.Reconfigure(Spec{Model: "/new.gguf"})
				time.Sleep(time.Second)
				if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" || now.Removed {
					t.Errorf("it runs %s, removed: %t", now.Model, now.Removed)
				}
				stop()
			})
		})
	}
}

// TestCommandsOutliveTheProcess: a process that crashes while it drains does not
// cancel the command: no pause follows, and the server does not fail.
func TestCommandsOutliveTheProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		give  func(*Server)
		state State
		model string
	}{
		"restart":     {func(s *Server) { s.Restart() }, Ready, "/old.gguf"},
		"reconfigure": {func(s *Server) { s.Reconfigure(Spec{Model: "/new.gguf"}) }, Ready, "/new.gguf"},
		"remove":      {func(s *Server) { s.Remove() }, Stopped, "/old.gguf"},
		"taken back":  {func(s *Server) { s.Remove(); s.Reconfigure(Spec{Model: "/new.gguf"}) }, Ready, "/new.gguf"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{Model: "/old.gguf", Traffic: busy})
				end := crashes(s, process.Exit{Code: -1, Signal: "SIGILL"})
				stop := runServer(t, s)
				time.Sleep(time.Second)
				end() // the first time; a second one is failed
				time.Sleep(10 * time.Second)
				tc.give(s)
				time.Sleep(time.Second)
				if now := wantState(t, s, Draining, "its calls end first"); now.Removed != (tc.state == Stopped) {
					t.Errorf("removed: %t", now.Removed)
				}
				end()
				time.Sleep(time.Second)
				if now := s.Snapshot(); now.State != tc.state || now.Model != tc.model || now.LastExit == nil {
					t.Errorf("it is %s (%s) on %s, want %s on %s", now.State, now.Reason, now.Model, tc.state, tc.model)
				}
				stop()
				if now := s.Snapshot(); now.Removed != (tc.state == Stopped) {
					t.Errorf("after the end, removed: %t", now.Removed)
				}
			})
		})
	}
}

// TestUpdateSpec: it takes effect with the next start, and causes none.
func TestUpdateSpec(t *testing.T) {
	inVirtualTime(t, Spec{Model: "/old.gguf"}, func(s *Server) {
		time.Sleep(time.Second)
		s.UpdateSpec(Spec{Model: "/new.gguf"})
		time.Sleep(time.Hour)
		if now := wantState(t, s, Ready, ""); now.Model != "/old.gguf" || now.Restarts != 0 {
			t.Errorf("%+v", now)
		}
		if reason := (command{replace: true, spec: &Spec{}}).reason(); reason != "a restart was asked for" {
			t.Errorf("an operator's restart after it has the reason %q", reason)
		}
		s.Restart()
		time.Sleep(time.Second)
		if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" || now.Restarts != 1 {
			t.Errorf("%+v", now)
		}
	})
}

// TestHealth: SetHealth degrades a server that answers, and ends that; the process
// is not affected.
func TestHealth(t *testing.T) {
	inVirtualTime(t, Spec{}, func(s *Server) {
		s.SetHealth("the GPU is hot") // before it is ready
		time.Sleep(time.Second)
		wantState(t, s, Degraded, "the GPU is hot")
		s.SetHealth("the GPU is hotter")
		time.Sleep(time.Second)
		wantState(t, s, Degraded, "the GPU is hotter")
		s.SetHealth("")
		time.Sleep(time.Second)
		if now := wantState(t, s, Ready, ""); now.Restarts != 0 {
			t.Errorf("%d restarts", now.Restarts)
		}
		s.SetHealth("the GPU is hot")
		s.Restart()
		s.SetHealth("the GPU is gone") // while it drains
		time.Sleep(time.Minute)
		wantState(t, s, Degraded, "the GPU is gone")
	})
}

// TestKill: the process is ended at once, whatever its calls do; a request for
// another process has no effect.
func TestKill(t *testing.T) {
	traffic := func() Traffic { return Traffic{Calls: 3, Bytes: time.Now().UnixNano()} }
	inVirtualTime(t, Spec{Traffic: traffic}, func(s *Server) {
		time.Sleep(time.Second)
		now := s.Snapshot()
		s.Kill(now.PID+1, GPUFailed, "not this one")
		time.Sleep(time.Second)
		wantState(t, s, Ready, "")
		s.Kill(now.PID, GPUFailed, "GPU 0 is lost")
		time.Sleep(time.Millisecond)
		if now := wantState(t, s, Restarting, "GPU 0 is lost; next start in"); now.LastExit.Class != GPUFailed {
			t.Errorf("exit %+v", now.LastExit)
		}
		time.Sleep(2 * time.Second)
		wantState(t, s, Ready, "")
	})
}

// TestStartWaitsForAdmission: for as long as the GPU does not admit it; the reason
// shows in the snapshot.
func TestStartWaitsForAdmission(t *testing.T) {
	var room atomic.Bool
	gpu := fakeGPU{admit: func() string {
		if room.Load() {
			return ""
		}
		return "needs 10.9 GiB"
	}}
	inVirtualTime(t, Spec{GPU: gpu}, func(s *Server) {
		time.Sleep(time.Hour)
		wantState(t, s, Starting, "needs 10.9 GiB")
		room.Store(true)
		time.Sleep(admitInterval + time.Second)
		wantState(t, s, Ready, "")
	})
}

// TestStartWaitsForVRAM: a start waits until the VRAM of the last process is free, ten
// seconds at most; the first start does not.
func TestStartWaitsForVRAM(t *testing.T) {
	var back atomic.Bool
	gpu := fakeGPU{unreclaimed: func() string {
		if back.Load() {
			return ""
		}
		return "1.0 of 9.4 GiB are back"
	}}
	inVirtualTime(t, Spec{GPU: gpu}, func(s *Server) {
		time.Sleep(time.Second)
		wantState(t, s, Ready, "")
		s.Restart()
		time.Sleep(5 * time.Second)
		wantState(t, s, Starting, "1.0 of 9.4 GiB are back")
		back.Store(true)
		time.Sleep(time.Second)
		wantState(t, s, Ready, "")
		back.Store(false)
		s.Restart()
		time.Sleep(reclaimTimeout - time.Second)
		wantState(t, s, Starting, "are back")
		time.Sleep(2 * time.Second)
		wantState(t, s, Ready, "")
	})
}
