package supervisor

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inVirtualTime runs a server whose process is a fake that is well. stop ends
// it; done is closed when Run has returned.
func inVirtualTime(t *testing.T, spec Spec, body func(s *Server, done <-chan struct{})) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		spec.Name, spec.Dir = "x", t.TempDir()
		s := New(spec, nopLog, nil)
		lives(s, func() error { return nil })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		body(s, done)
		cancel()
		<-done
	})
}

func wantState(t *testing.T, s *Server, state State, reason string) *Snapshot {
	t.Helper()
	now := s.Snapshot()
	if now.State != state || !strings.Contains(now.Reason, reason) || reason == "" && now.Reason != "" {
		t.Errorf("it is %s: %q; want %s with %q", now.State, now.Reason, state, reason)
	}
	return now
}

// TestReconfigure: the calls end first, and then there is another process on
// another model under the old name.
func TestReconfigure(t *testing.T) {
	var calls atomic.Int64
	traffic := func() Traffic { return Traffic{Calls: int(calls.Load()), Bytes: time.Now().UnixNano()} }
	inVirtualTime(t, Spec{Model: "/old.gguf", Traffic: traffic}, func(s *Server, _ <-chan struct{}) {
		time.Sleep(time.Second)
		calls.Store(1)
		s.Reconfigure(Spec{Name: "other", Dir: "/elsewhere", Model: "/new.gguf", CtxSize: 1, Traffic: traffic})
		time.Sleep(time.Minute)
		if now := wantState(t, s, Draining, "its configuration has changed"); now.Model != "/old.gguf" {
			t.Errorf("it drains %s", now.Model)
		}
		calls.Store(0)
		time.Sleep(time.Minute)
		if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" || now.Name != "x" || now.Restarts != 1 || now.LastExit != nil {
			t.Errorf("%+v", now)
		}
		if s.spec.Dir == "/elsewhere" {
			t.Error("its folder has changed under it")
		}
	})
}

// TestRemove: whatever it does, it comes to rest without a process, until ctx
// ends or it is taken back.
func TestRemove(t *testing.T) {
	for name, before := range map[string]func(*Server){
		"ready":      func(*Server) {},
		"failed":     func(s *Server) { failsFast(s, Exit{Code: 1, Class: ModelCorrupt}) },
		"restarting": func(s *Server) { failsFast(s, Exit{Code: 1}) },
		"waiting":    func(s *Server) { s.spec.GPU = fakeGPU{admit: func() string { return "no room" }} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Spec{Name: "x", Dir: t.TempDir()}, nopLog, nil)
				lives(s, func() error { return nil })
				before(s)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); s.Run(ctx) }()
				time.Sleep(time.Hour)
				s.Remove()
				time.Sleep(time.Second)
				wantState(t, s, Stopped, "no longer in the configuration")
				s.UpdateSpec(Spec{Model: "/new.gguf"})
				time.Sleep(time.Hour)
				if now := wantState(t, s, Stopped, "no longer in the configuration"); !now.Removed {
					t.Error("the snapshot does not say that it is removed")
				}
				lives(s, func() error { return nil })
				s.Reconfigure(Spec{Model: "/new.gguf"})
				time.Sleep(time.Second)
				if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" || now.Removed {
					t.Errorf("it runs %s, removed: %t", now.Model, now.Removed)
				}
				cancel()
				<-done
			})
		})
	}
}

// mortal is a process that a test can end.
type mortal struct {
	fakeChild
	end1 sync.Once
}

func (c *mortal) die()                                { c.end1.Do(func() { c.exit.At = time.Now(); close(c.over) }) }
func (c *mortal) stop(time.Duration, <-chan struct{}) { c.die() }

// TestOrdersOutliveTheProcess: a process that dies while it drains does not take
// the order with it, into a pause or into failed.
func TestOrdersOutliveTheProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		give  func(*Server)
		state State
		model string
	}{
		"restart":     {func(s *Server) { s.Restart() }, Ready, "/old.gguf"},
		"reconfigure": {func(s *Server) { s.Reconfigure(Spec{Model: "/new.gguf"}) }, Ready, "/new.gguf"},
		"retire":      {func(s *Server) { s.Remove() }, Stopped, "/old.gguf"},
		"taken back":  {func(s *Server) { s.Remove(); s.Reconfigure(Spec{Model: "/new.gguf"}) }, Ready, "/new.gguf"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				busy := func() Traffic { return Traffic{Calls: 1, Bytes: time.Now().UnixNano()} }
				s := New(Spec{Name: "x", Dir: t.TempDir(), Model: "/old.gguf", Traffic: busy}, nopLog, nil)
				lives(s, func() error { return nil })
				var last atomic.Pointer[mortal]
				s.start = func(context.Context, *lineWriter) (child, Endpoint, error) {
					c := &mortal{fakeChild: fakeChild{over: make(chan struct{}), exit: Exit{Code: -1, Signal: "SIGILL"}}}
					last.Store(c)
					return c, Endpoint{Network: "fake"}, nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); s.Run(ctx) }()
				time.Sleep(time.Second)
				last.Load().die() // the first time; a second one is failed
				time.Sleep(10 * time.Second)
				tc.give(s)
				time.Sleep(time.Second)
				if now := wantState(t, s, Draining, "its calls end first"); now.Removed != (tc.state == Stopped) {
					t.Errorf("removed: %t", now.Removed)
				}
				last.Load().die()
				time.Sleep(time.Second)
				if now := s.Snapshot(); now.State != tc.state || now.Model != tc.model || now.LastExit == nil {
					t.Errorf("it is %s (%s) on %s, want %s on %s", now.State, now.Reason, now.Model, tc.state, tc.model)
				}
				cancel()
				<-done
				if now := s.Snapshot(); now.Removed != (tc.state == Stopped) {
					t.Errorf("after the end, removed: %t", now.Removed)
				}
			})
		})
	}
}

// TestUpdateSpec: a word on what to run next disturbs nobody, in no state.
func TestUpdateSpec(t *testing.T) {
	inVirtualTime(t, Spec{Model: "/old.gguf"}, func(s *Server, _ <-chan struct{}) {
		time.Sleep(time.Second)
		s.UpdateSpec(Spec{Model: "/new.gguf"})
		time.Sleep(time.Hour)
		if now := wantState(t, s, Ready, ""); now.Model != "/old.gguf" || now.Restarts != 0 {
			t.Errorf("%+v", now)
		}
		if words := (order{replace: true, spec: &Spec{}}).words(); words != "a restart was asked for" {
			t.Errorf("an operator's restart after it is told as %q", words)
		}
		s.Restart()
		time.Sleep(time.Second)
		if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" || now.Restarts != 1 {
			t.Errorf("%+v", now)
		}
	})
}

// TestHealth: a word from outside degrades a server that answers, and another
// one heals it; its process does not notice.
func TestHealth(t *testing.T) {
	inVirtualTime(t, Spec{}, func(s *Server, _ <-chan struct{}) {
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

// TestCondemned: a process that is known to be beyond help is ended at once,
// whatever its calls do; the word on another process is not for it.
func TestCondemned(t *testing.T) {
	traffic := func() Traffic { return Traffic{Calls: 3, Bytes: time.Now().UnixNano()} }
	inVirtualTime(t, Spec{Traffic: traffic}, func(s *Server, _ <-chan struct{}) {
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

type fakeGPU struct {
	devices            string
	outstanding, admit func() string
}

func (g fakeGPU) Devices() string              { return g.devices }
func (g fakeGPU) UnreclaimedVRAM() string      { return say(g.outstanding) }
func (g fakeGPU) Admit(context.Context) string { return say(g.admit) }

func say(what func() string) string {
	if what == nil {
		return ""
	}
	return what()
}

// TestStartWaitsForRoom: for as long as it takes, and it says for what.
func TestStartWaitsForRoom(t *testing.T) {
	var room atomic.Bool
	gpu := fakeGPU{admit: func() string {
		if room.Load() {
			return ""
		}
		return "needs 10.9 GiB"
	}}
	inVirtualTime(t, Spec{GPU: gpu}, func(s *Server, _ <-chan struct{}) {
		time.Sleep(time.Hour)
		wantState(t, s, Starting, "needs 10.9 GiB")
		room.Store(true)
		time.Sleep(admitLook + time.Second)
		wantState(t, s, Ready, "")
	})
}

// TestStartWaitsForVRAM: what the last process held is waited for, ten seconds
// at most; before the first start there is nothing to wait for.
func TestStartWaitsForVRAM(t *testing.T) {
	var back atomic.Bool
	gpu := fakeGPU{outstanding: func() string {
		if back.Load() {
			return ""
		}
		return "1.0 of 9.4 GiB are back"
	}}
	inVirtualTime(t, Spec{GPU: gpu}, func(s *Server, _ <-chan struct{}) {
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
		time.Sleep(returnPatience - time.Second)
		wantState(t, s, Starting, "are back")
		time.Sleep(2 * time.Second)
		wantState(t, s, Ready, "")
	})
}
