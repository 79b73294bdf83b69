package supervisor

import (
	"context"
	"io"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

// TestHeartbeat: whatever the owner waits for, its heartbeat is recent; while it waits
// for the kernel to end a process, the check is suspended.
func TestHeartbeat(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*Server)
		want   State
	}{
		"ready":   {func(*Server) {}, Ready},
		"loading": {func(s *Server) { s.engine = fakeEngine{loaded: func() error { return ErrLoading }} }, Loading},
		"failed": {func(s *Server) {
			s.start = func(context.Context, io.Writer) (child, Command, error) { return nil, Command{}, fs.ErrNotExist }
		}, Failed},
		"restarting": {func(s *Server) { failsFast(s, process.Exit{Code: 1}, "") }, Restarting},
		"waiting":    {func(s *Server) { s.spec.GPU = fakeGPU{admit: func() string { return "no room" }} }, Starting},
		"removed":    {func(s *Server) { s.Remove() }, Stopped},
		"drained":    {func(s *Server) { s.Drain(DrainOptions{Reason: "x"}) }, Drained},
		"kept": {func(s *Server) {
			time.AfterFunc(time.Second, func() { s.Drain(DrainOptions{Reason: "x", Keep: true}) })
		}, Drained},
		"stopping": {stopsLate, Draining},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{LoadTimeout: time.Hour})
				staysUp(s, nil)
				c.before(s)
				stop := runServer(t, s)
				time.Sleep(50 * time.Second) // the pauses of a crash loop have become long
				if now := s.Snapshot(); now.State != c.want {
					t.Errorf("it is %s, %s; want %s", now.State, now.Reason, c.want)
				}
				for range 60 {
					time.Sleep(time.Second)
					if ago := time.Since(s.LastHeartbeat()); ago > heartbeatInterval {
						t.Fatalf("the last heartbeat was %s ago", ago)
					}
				}
				stop()
				time.Sleep(time.Hour)
				if ago := time.Since(s.LastHeartbeat()); ago != 0 {
					t.Errorf("after Run the last heartbeat was %s ago, as if it were stuck", ago)
				}
			})
		})
	}
}

// TestStuckOwner: the heartbeat of an owner that is stuck gets older.
func TestStuckOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Spec{})
		if ago := time.Since(s.LastHeartbeat()); ago != 0 {
			t.Errorf("before Run the last heartbeat was %s ago", ago)
		}
		stuck := make(chan struct{})
		s.start = func(context.Context, io.Writer) (child, Command, error) {
			<-stuck
			return nil, Command{}, context.Canceled
		}
		stop := runServer(t, s)
		time.Sleep(time.Minute)
		if ago := time.Since(s.LastHeartbeat()); ago != time.Minute {
			t.Errorf("the last heartbeat was %s ago, want a minute", ago)
		}
		close(stuck)
		stop()
	})
}

// stopsLate restarts a server whose process takes long to stop.
func stopsLate(s *Server) {
	s.start = func(context.Context, io.Writer) (child, Command, error) {
		p := newFakeProcess(process.Exit{})
		p.stopFor = 5 * time.Minute // as one that has to release gigabytes
		return p, Command{Endpoint: Endpoint{Network: "fake"}}, nil
	}
	go func() {
		time.Sleep(time.Second)
		s.Restart()
	}()
}
