package supervisor

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeChild is a process that does as a test says.
type fakeChild struct {
	over chan struct{}
	exit Exit
}

func (c *fakeChild) id() int                                 { return 0 }
func (c *fakeChild) done() <-chan struct{}                   { return c.over }
func (c *fakeChild) end() Exit                               { return c.exit }
func (c *fakeChild) stop(_ time.Duration, _ <-chan struct{}) { <-c.over }

// fakeEngine answers as a test says.
type fakeEngine struct{ err error }

func (e fakeEngine) listener(context.Context, int) (bool, error) { return false, e.err }
func (e fakeEngine) health(context.Context) error                { return e.err }
func (e fakeEngine) complete(context.Context) error              { return e.err }
func (e fakeEngine) props(context.Context) (properties, error)   { return properties{}, e.err }
func (e fakeEngine) vitals(context.Context) vitals               { return vitals{} }

// failsFast makes a server's process end as soon as it is started.
func failsFast(s *Server, exit Exit) (starts *atomic.Int64) {
	starts = new(atomic.Int64)
	s.engine = func(Endpoint) engine { return fakeEngine{errors.New("refused")} }
	s.start = func(_ context.Context, out *lineWriter) (child, Endpoint, error) {
		starts.Add(1)
		_, _ = out.Write([]byte("error: out of luck\n"))
		c := &fakeChild{over: make(chan struct{}), exit: exit}
		c.exit.At = time.Now()
		close(c.over)
		return c, Endpoint{}, nil
	}
	return starts
}

// TestAThousandCrashes: a crash loop costs neither goroutines nor descriptors
// nor memory, and no more starts than the policy allows. In virtual time.
func TestAThousandCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Spec{Name: "x", Dir: t.TempDir()}, nopLog, nil)
		starts := failsFast(s, Exit{Code: 1})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()

		reach := func(n int64) {
			for starts.Load() < n {
				time.Sleep(time.Minute)
				synctest.Wait()
			}
		}
		reach(100) // past all that is made once
		goroutines, descriptors, heap := runtime.NumGoroutine(), countDescriptors(t), heapBytes()
		began, first := time.Now(), starts.Load()
		reach(1000)
		if rate := float64(starts.Load()-first) / time.Since(began).Minutes(); rate > 1.3 {
			t.Errorf("%.2f starts a minute; the pause has to be a minute less a fifth", rate)
		}
		if got := runtime.NumGoroutine(); got > goroutines {
			t.Errorf("%d goroutines, after 100 crashes there were %d", got, goroutines)
		}
		if got := countDescriptors(t); got > descriptors {
			t.Errorf("%d descriptors, after 100 crashes there were %d", got, descriptors)
		}
		if got := heapBytes(); got > heap+1<<20 {
			t.Errorf("%d bytes in use, after 100 crashes there were %d", got, heap)
		}
		now := s.Snapshot()
		if now.State != Restarting || now.Restarts < 900 || now.LastExit == nil {
			t.Errorf("%s after %d restarts", now.State, now.Restarts)
		}
		if by := now.LastExit.Class; len(now.RestartsBy) != 1 || now.RestartsBy[by] != now.Restarts {
			t.Errorf("of %d restarts %v are told, and the class is %s", now.Restarts, now.RestartsBy, by)
		}
		cancel()
		<-done
	})
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestGivesUpAndComesBack: what waiting can't mend is tried twice; a changed
// file, or an operator, starts it again.
func TestGivesUpAndComesBack(t *testing.T) {
	for name, mend := range map[string]func(*Server){
		"the model's file changes": func(s *Server) { _ = os.WriteFile(s.spec.Model, []byte("another model"), 0o600) },
		"an operator asks":         func(s *Server) { s.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Spec{Name: "x", Dir: t.TempDir(), Model: t.TempDir() + "/m.gguf"}, nopLog, nil)
				starts := failsFast(s, Exit{Code: 1, Class: ModelCorrupt, Cause: "corrupt"})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); s.Run(ctx) }()
				time.Sleep(time.Hour)
				if now := s.Snapshot(); now.State != Failed || starts.Load() != 2 {
					t.Fatalf("%s (%s) after %d starts, want failed after 2", now.State, now.Reason, starts.Load())
				}
				mend(s)
				time.Sleep(time.Hour)
				if n := starts.Load(); n != 4 {
					t.Errorf("%d starts, want 2 more", n)
				}
				cancel()
				<-done
			})
		})
	}
}

// lives makes a server's process live until it is stopped, with an engine that
// is well but for what complete says.
func lives(s *Server, complete func() error) {
	s.engine = func(Endpoint) engine { return wellEngine{complete} }
	s.start = func(context.Context, *lineWriter) (child, Endpoint, error) {
		return &stoppable{fakeChild{over: make(chan struct{})}}, Endpoint{Network: "fake"}, nil
	}
}

type stoppable struct{ fakeChild }

func (c *stoppable) stop(time.Duration, <-chan struct{}) { close(c.over) }

type wellEngine struct{ canComplete func() error }

func (wellEngine) listener(context.Context, int) (bool, error) { return true, nil }
func (wellEngine) health(context.Context) error                { return nil }
func (e wellEngine) complete(context.Context) error            { return e.canComplete() }
func (wellEngine) props(context.Context) (properties, error) {
	return properties{slots: 4, ctxSize: 8192}, nil
}

func (wellEngine) vitals(context.Context) vitals {
	return vitals{health: true, slots: true}
}

// TestCanary: a server with nothing to do has to prove itself after 5 minutes;
// one whose completions fail by then is replaced, though it answers all probes.
func TestCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Spec{Name: "x", Dir: t.TempDir()}, nopLog, nil)
		var asked atomic.Int64
		var broken atomic.Bool
		lives(s, func() error {
			asked.Add(1)
			if broken.Load() {
				return errors.New("no answer")
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		time.Sleep(16 * time.Minute)
		if now := s.Snapshot(); now.State != Ready || now.LastExit != nil {
			t.Fatalf("a good idle server is %s: %+v", now.State, now.LastExit)
		}
		if n := asked.Load(); n != 1+3 {
			t.Errorf("asked for %d completions in 16 minutes, want one to be ready and three canaries", n)
		}
		broken.Store(true)
		time.Sleep(5*time.Minute + DefaultStallTimeout + 2*lookEvery)
		if now := s.Snapshot(); now.State == Ready || now.LastExit == nil || now.LastExit.Class != Hung {
			t.Errorf("a broken idle server is %s: %+v", now.State, now.LastExit)
		}
		cancel()
		<-done
	})
}

// TestRestartOnRequest: calls end first, nothing is counted as a failure.
func TestRestartOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		s := New(Spec{Name: "x", Dir: t.TempDir(), Traffic: func() Traffic { return Traffic{Calls: int(calls.Load()), Bytes: time.Now().UnixNano()} }}, nopLog, nil)
		lives(s, func() error { return nil })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		time.Sleep(time.Second)
		calls.Store(2)
		s.Restart()
		time.Sleep(time.Minute)
		if now := s.Snapshot(); now.State != Draining || now.Restarts != 0 {
			t.Fatalf("with calls in flight it is %s after %d restarts", now.State, now.Restarts)
		}
		calls.Store(0)
		time.Sleep(time.Second)
		if now := s.Snapshot(); now.State != Ready || now.Restarts != 1 || now.LastExit != nil {
			t.Errorf("%s after %d restarts, last exit %+v", now.State, now.Restarts, now.LastExit)
		}
		s.Restart()
		s.Restart() // joins the first
		time.Sleep(time.Minute)
		if now := s.Snapshot(); now.State != Ready || now.Restarts != 2 {
			t.Errorf("%s after %d restarts", now.State, now.Restarts)
		}
		cancel()
		<-done
	})
}
