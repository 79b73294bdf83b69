package supervisor

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

const forAnother = "another model needs the VRAM"

func wantUnloaded(t *testing.T, s *Server) {
	t.Helper()
	if now := wantState(t, s, Unloaded, forAnother); now.PID != 0 || now.Exited != nil || now.DrainRequested || !now.UnloadRequested {
		t.Errorf("unloaded, and the snapshot says %+v", now)
	}
}

// TestUnload: the calls end first, and there is no process until Load.
func TestUnload(t *testing.T) {
	var calls atomic.Int64
	traffic := func() Traffic { return Traffic{Calls: int(calls.Load()), Bytes: time.Now().UnixNano()} }
	inVirtualTime(t, Spec{Traffic: traffic}, func(s *Server) {
		time.Sleep(time.Second)
		calls.Store(2)
		gone := s.Snapshot().Exited
		s.Unload(DrainOptions{Until: time.Now().Add(time.Minute), Keep: true, Reason: forAnother})
		synctest.Wait()
		wantState(t, s, Unloading, forAnother+"; its calls end first")
		time.Sleep(30 * time.Second)
		wantState(t, s, Unloading, forAnother)
		calls.Store(0)
		time.Sleep(time.Second)
		wantUnloaded(t, s)
		<-gone
		time.Sleep(48 * time.Hour)
		wantUnloaded(t, s)
		s.Load()
		time.Sleep(time.Second)
		if now := wantState(t, s, Ready, ""); now.UnloadRequested || now.LastExit != nil {
			t.Errorf("loaded again: %+v", now)
		}

		calls.Store(1) // which never ends
		s.Unload(DrainOptions{Until: time.Now().Add(5 * time.Second), Reason: forAnother})
		time.Sleep(time.Second)
		wantState(t, s, Unloading, forAnother)
		s.Load() // a call has come meanwhile
		time.Sleep(time.Second)
		wantState(t, s, Ready, "")
	})
}

// TestUnloadedIsChanged: an unloaded server shows what its next start runs.
func TestUnloadedIsChanged(t *testing.T) {
	inVirtualTime(t, Spec{Model: "/old.gguf"}, func(s *Server) {
		time.Sleep(time.Second)
		s.Unload(DrainOptions{Reason: forAnother})
		time.Sleep(time.Second)
		s.UpdateSpec(Spec{Model: "/new.gguf", CtxSize: 512})
		synctest.Wait()
		wantUnloaded(t, s)
		if now := s.Snapshot(); now.Model != "/new.gguf" || now.CtxSize != 512 {
			t.Errorf("it shows %s with %d tokens", now.Model, now.CtxSize)
		}
	})
}

// TestUnloadInEveryState: a server can be unloaded in every state, before its first start
// as well, and loaded after that.
func TestUnloadInEveryState(t *testing.T) {
	for name, before := range map[string]func(*Server){
		"ready":      func(*Server) {},
		"loading":    func(s *Server) { staysUp(s, func() error { return errors.New("refused") }) },
		"failed":     func(s *Server) { failsFast(s, process.Exit{Code: 1}, ModelCorrupt) },
		"restarting": func(s *Server) { failsFast(s, process.Exit{Code: 1}, "") },
		"waiting":    func(s *Server) { s.spec.GPU = fakeGPU{admit: func() string { return "no room" }} },
		"at once":    func(s *Server) { s.Unload(DrainOptions{Reason: forAnother}) },
		"drained": func(s *Server) {
			s.Drain(DrainOptions{Reason: byHand})
			time.AfterFunc(5*time.Second, s.Resume)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{LoadTimeout: time.Hour})
				staysUp(s, nil)
				before(s)
				stop := runServer(t, s)
				time.Sleep(10 * time.Second)
				s.Unload(DrainOptions{Reason: forAnother})
				time.Sleep(time.Second)
				wantUnloaded(t, s)
				s.UpdateSpec(Spec{Model: "/new.gguf"})
				staysUp(s, nil)
				s.Load()
				time.Sleep(time.Second)
				if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" {
					t.Errorf("it runs %s", now.Model)
				}
				s.Unload(DrainOptions{Reason: forAnother})
				time.Sleep(time.Second)
				s.Remove()
				time.Sleep(time.Second)
				wantState(t, s, Stopped, "no longer in the configuration")
				stop()
			})
		})
	}
}

// TestDrainPrevailsOverUnload: an operator's drain holds whatever the scheduler does, and a
// server that was unloaded before it is unloaded after it.
func TestDrainPrevailsOverUnload(t *testing.T) {
	inVirtualTime(t, Spec{}, func(s *Server) {
		time.Sleep(time.Second)
		s.Unload(DrainOptions{Reason: forAnother})
		time.Sleep(time.Second)
		s.Drain(DrainOptions{Reason: byHand})
		time.Sleep(time.Second)
		wantDrained(t, s)
		if now := s.Snapshot(); !now.DrainRequested || now.UnloadRequested {
			t.Errorf("drained: %+v", now)
		}
		s.Load()
		time.Sleep(time.Second)
		wantDrained(t, s)
		s.Unload(DrainOptions{Reason: forAnother})
		time.Sleep(time.Second)
		wantDrained(t, s)
		s.Resume()
		time.Sleep(time.Second)
		wantUnloaded(t, s)
		s.Load()
		time.Sleep(time.Second)
		wantState(t, s, Ready, "")
	})
	inVirtualTime(t, Spec{Traffic: busy}, func(s *Server) { // while its calls end
		time.Sleep(time.Second)
		s.Unload(DrainOptions{Reason: forAnother, Until: time.Now().Add(time.Minute)})
		time.Sleep(time.Second)
		wantState(t, s, Unloading, forAnother)
		s.Drain(DrainOptions{Reason: byHand, Until: time.Now().Add(time.Hour)})
		time.Sleep(time.Second)
		wantState(t, s, Draining, byHand)
		s.Resume()
		time.Sleep(time.Second)
		wantState(t, s, Unloading, forAnother)
		time.Sleep(2 * time.Minute)
		wantUnloaded(t, s)
	})
}
