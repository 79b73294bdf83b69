package supervisor

import (
	"context"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurns: whatever the owner waits for, it shows every few seconds that it is
// not stuck; a wait for the kernel counts as if it did.
func TestTurns(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*Server)
		want   State
	}{
		"ready":   {func(*Server) {}, Ready},
		"loading": {func(s *Server) { s.engine = func(Endpoint) engine { return fakeEngine{errLoading} } }, Loading},
		"failed": {func(s *Server) {
			s.start = func(context.Context, *lineWriter) (child, Endpoint, error) { return nil, Endpoint{}, fs.ErrNotExist }
		}, Failed},
		"restarting": {func(s *Server) { failsFast(s, Exit{Code: 1}) }, Restarting},
		"waiting":    {func(s *Server) { s.spec.GPU = fakeGPU{admit: func() string { return "no room" }} }, Starting},
		"retired":    {func(s *Server) { s.Remove() }, Stopped},
		"drained":    {func(s *Server) { s.Drain(DrainOptions{Reason: "x"}) }, Drained},
		"kept": {func(s *Server) {
			time.AfterFunc(time.Second, func() { s.Drain(DrainOptions{Reason: "x", Keep: true}) })
		}, Drained},
		"stopping": {stopsLate, Draining},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Spec{Name: "x", Dir: t.TempDir(), LoadTimeout: time.Hour}, nopLog, nil)
				lives(s, func() error { return nil })
				c.before(s)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); s.Run(ctx) }()
				time.Sleep(50 * time.Second) // the pauses of a crash loop have become long
				if now := s.Snapshot(); now.State != c.want {
					t.Errorf("it is %s, %s; want %s", now.State, now.Reason, c.want)
				}
				for range 60 {
					time.Sleep(time.Second)
					if ago := time.Since(s.LastHeartbeat()); ago > turnEvery {
						t.Fatalf("its owner last turned %s ago", ago)
					}
				}
				cancel()
				<-done
				time.Sleep(time.Hour)
				if ago := time.Since(s.LastHeartbeat()); ago != 0 {
					t.Errorf("without an owner it last turned %s ago; that is no hang", ago)
				}
			})
		})
	}
}

// TestStuck: an owner that does not come back from what it does is told by the
// time that has passed.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Spec{Name: "x", Dir: t.TempDir()}, nopLog, nil)
		if ago := time.Since(s.LastHeartbeat()); ago != 0 {
			t.Errorf("before its Run it last turned %s ago", ago)
		}
		stuck := make(chan struct{})
		s.start = func(context.Context, *lineWriter) (child, Endpoint, error) {
			<-stuck
			return nil, Endpoint{}, context.Canceled
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		time.Sleep(time.Minute)
		if ago := time.Since(s.LastHeartbeat()); ago != time.Minute {
			t.Errorf("its owner last turned %s ago; want a minute", ago)
		}
		cancel()
		close(stuck)
		<-done
	})
}

// slowToGo takes its time to end, as a process that gives back gigabytes does.
type slowToGo struct{ fakeChild }

func (c *slowToGo) stop(time.Duration, <-chan struct{}) {
	time.Sleep(5 * time.Minute)
	close(c.over)
}

// stopsLate has a server be restarted whose process is slow to go.
func stopsLate(s *Server) {
	s.start = func(context.Context, *lineWriter) (child, Endpoint, error) {
		return &slowToGo{fakeChild{over: make(chan struct{})}}, Endpoint{Network: "fake"}, nil
	}
	go func() {
		time.Sleep(time.Second)
		s.Restart()
	}()
}
