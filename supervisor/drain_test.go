package supervisor

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

const byHand = "drained by an operator"

// TestDrain: the server gets no new calls from the first moment, those in flight end or
// have had their time, and then there is no process until Resume.
func TestDrain(t *testing.T) {
	var calls atomic.Int64
	traffic := func() Traffic { return Traffic{Calls: int(calls.Load()), Bytes: time.Now().UnixNano()} }
	inVirtualTime(t, Spec{Traffic: traffic}, func(s *Server) {
		time.Sleep(time.Second)
		calls.Store(2)
		gone := s.Snapshot().Exited
		s.Drain(DrainOptions{Until: time.Now().Add(10 * time.Minute), Reason: byHand})
		synctest.Wait()
		wantState(t, s, Draining, byHand+"; its calls end first")
		time.Sleep(5 * time.Minute)
		wantState(t, s, Draining, byHand)
		calls.Store(0)
		time.Sleep(time.Second)
		wantDrained(t, s)
		<-gone
		s.Kill(1, GPUFailed, "another one")
		s.SetHealth("the GPU is gone")
		time.Sleep(48 * time.Hour)
		wantDrained(t, s)
		s.Resume()
		s.SetHealth("")
		time.Sleep(time.Second)
		if now := wantState(t, s, Ready, ""); now.Restarts != 1 || now.LastExit != nil {
			t.Errorf("%d restarts, %+v: a drain is no failure", now.Restarts, now.LastExit)
		}

		calls.Store(1) // which never ends
		s.Drain(DrainOptions{Until: time.Now().Add(5 * time.Second), Reason: byHand})
		time.Sleep(4 * time.Second)
		wantState(t, s, Draining, byHand)
		time.Sleep(2 * time.Second)
		wantDrained(t, s)
	})
}

func wantDrained(t *testing.T, s *Server) {
	t.Helper()
	if now := wantState(t, s, Drained, byHand); now.Exited != nil || now.PID != 0 || now.Endpoint != (Endpoint{}) || s.Snapshot().State.Alive() {
		t.Errorf("drained, and the snapshot still has a process: %+v", now)
	}
}

// TestDrainIsChanged: another Drain replaces the options.
func TestDrainIsChanged(t *testing.T) {
	inVirtualTime(t, Spec{Traffic: busy}, func(s *Server) {
		time.Sleep(time.Second)
		s.Drain(DrainOptions{Until: time.Now().Add(time.Hour), Reason: "one"})
		time.Sleep(time.Minute)
		s.Drain(DrainOptions{Until: time.Now().Add(time.Second), Reason: "another"})
		synctest.Wait()
		wantState(t, s, Draining, "another; its calls end first")
		time.Sleep(2 * time.Second)
		wantState(t, s, Drained, "another")
		s.Drain(DrainOptions{Reason: "a third"})
		synctest.Wait()
		wantState(t, s, Drained, "a third")
	})
}

// TestDrainIsWithdrawn: Resume before the calls have ended leaves the process in use.
func TestDrainIsWithdrawn(t *testing.T) {
	inVirtualTime(t, Spec{Traffic: busy}, func(s *Server) {
		time.Sleep(time.Second)
		before := s.Snapshot()
		for range 3 {
			s.Drain(DrainOptions{Until: time.Now().Add(time.Minute), Reason: byHand})
			time.Sleep(30 * time.Second)
			wantState(t, s, Draining, byHand)
			s.Resume()
			synctest.Wait()
			wantState(t, s, Ready, "")
		}
		time.Sleep(time.Hour)
		if now := wantState(t, s, Ready, ""); now.Exited != before.Exited || now.Restarts != 0 {
			t.Errorf("another process: %+v", now)
		}
	})
}

// TestDrainInEveryState: a server can be drained in every state, and resumed after
// that.
func TestDrainInEveryState(t *testing.T) {
	for name, before := range map[string]func(*Server){
		"ready":      func(*Server) {},
		"loading":    func(s *Server) { staysUp(s, func() error { return errors.New("refused") }) },
		"failed":     func(s *Server) { failsFast(s, process.Exit{Code: 1}, ModelCorrupt) },
		"restarting": func(s *Server) { failsFast(s, process.Exit{Code: 1}, "") },
		"waiting":    func(s *Server) { s.spec.GPU = fakeGPU{admit: func() string { return "no room" }} },
		"at once":    func(s *Server) { s.Drain(DrainOptions{Reason: byHand}) },
		"and kept":   func(s *Server) { s.Drain(DrainOptions{Reason: byHand, Keep: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{LoadTimeout: time.Hour})
				staysUp(s, nil)
				before(s)
				stop := runServer(t, s)
				time.Sleep(10 * time.Second)
				s.Drain(DrainOptions{Reason: byHand})
				time.Sleep(time.Second)
				wantDrained(t, s)
				s.UpdateSpec(Spec{Model: "/new.gguf"})
				time.Sleep(time.Hour)
				wantDrained(t, s)
				staysUp(s, nil)
				s.Resume()
				time.Sleep(time.Second)
				if now := wantState(t, s, Ready, ""); now.Model != "/new.gguf" {
					t.Errorf("it runs %s", now.Model)
				}
				s.Drain(DrainOptions{Reason: byHand})
				time.Sleep(time.Second)
				s.Remove() // no longer wanted at all
				time.Sleep(time.Second)
				wantState(t, s, Stopped, "no longer in the configuration")
				s.Reconfigure(Spec{Model: "/newer.gguf"})
				time.Sleep(time.Second)
				wantDrained(t, s)
				stop()
			})
		})
	}
}

// TestDrainKeepsTheProcess: the process gets no calls, those that wait for it move
// elsewhere, and it is used again once it answers a test call.
func TestDrainKeepsTheProcess(t *testing.T) {
	var calls atomic.Int64
	traffic := func() Traffic { return Traffic{Calls: int(calls.Load()), Bytes: time.Now().UnixNano()} }
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Spec{Traffic: traffic})
		var broken atomic.Bool
		staysUp(s, func() error {
			if broken.Load() {
				return errors.New("no answer")
			}
			return nil
		})
		stop := runServer(t, s)
		time.Sleep(time.Second)
		calls.Store(1)
		before := s.Snapshot()
		keep := DrainOptions{Until: time.Now().Add(5 * time.Second), Keep: true, Reason: byHand}
		s.Drain(keep)
		time.Sleep(time.Minute)
		now := wantState(t, s, Drained, byHand)
		<-before.Exited // its call moves on
		if now.Endpoint != before.Endpoint || now.Exited == before.Exited || now.Exited == nil {
			t.Errorf("%+v", now)
		}
		s.SetHealth("the GPU is hot")
		s.Resume()
		time.Sleep(time.Second)
		if now := wantState(t, s, Degraded, "hot"); now.Restarts != 0 {
			t.Error("it was started anew")
		}
		s.SetHealth("")

		calls.Store(0)
		s.Drain(keep)
		time.Sleep(time.Second)
		wantState(t, s, Drained, byHand)
		s.Drain(DrainOptions{Reason: byHand}) // and now without its process
		time.Sleep(time.Second)
		wantDrained(t, s)
		s.Resume()
		time.Sleep(time.Second)

		s.Drain(keep)
		time.Sleep(time.Second)
		wantState(t, s, Drained, byHand)
		broken.Store(true)
		s.Resume()
		time.Sleep(time.Millisecond)
		if now := s.Snapshot(); now.State != Restarting || now.LastExit == nil || now.LastExit.Class != Hung {
			t.Errorf("one that answers no test call is %s: %s", now.State, now.Reason)
		}
		stop()
	})
}

// TestDrainedProcessCrashes: a crash leaves the server drained.
func TestDrainedProcessCrashes(t *testing.T) {
	for name, keep := range map[string]bool{"kept": true, "while its calls end": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				traffic := busy
				if keep {
					traffic = nil
				}
				s := newServer(t, Spec{Traffic: traffic})
				end := crashes(s, process.Exit{Code: -1, Signal: "SIGSEGV"})
				stop := runServer(t, s)
				time.Sleep(time.Second)
				s.Drain(DrainOptions{Keep: keep, Reason: byHand})
				time.Sleep(time.Second)
				end()
				time.Sleep(time.Minute)
				wantDrained(t, s)
				if now := s.Snapshot(); now.LastExit == nil || now.LastExit.Signal != "SIGSEGV" {
					t.Errorf("exit %+v", now.LastExit)
				}
				s.Resume()
				time.Sleep(time.Second)
				wantState(t, s, Ready, "")
				stop()
			})
		})
	}
}

// TestSnapshotShowsTheDrain: all snapshots that are published while a drain is in
// force say so, whatever the state; none does before or after.
func TestSnapshotShowsTheDrain(t *testing.T) {
	s := newServer(t, Spec{})
	ends := time.Now().Add(time.Hour)
	for _, step := range []struct {
		command   func()
		to        State
		requested bool
		ends      time.Time
	}{
		{func() {}, Starting, false, time.Time{}},
		{func() { s.Drain(DrainOptions{Ends: ends}) }, Starting, true, ends},
		{func() {}, Loading, true, ends},
		{func() { s.Drain(DrainOptions{Keep: true}) }, Ready, true, time.Time{}},
		{func() {}, Draining, true, time.Time{}},
		{s.Resume, Drained, false, time.Time{}}, // a kept process, before its completion
		{s.Restart, Ready, false, time.Time{}},
		{func() {}, Draining, false, time.Time{}},
	} {
		step.command()
		s.transition(step.to, "", nil)
		if now := s.Snapshot(); now.DrainRequested != step.requested || !now.DrainEnds.Equal(step.ends) {
			t.Errorf("%s: drain requested %v until %v, want %v until %v", step.to, now.DrainRequested, now.DrainEnds, step.requested, step.ends)
		}
	}
}
