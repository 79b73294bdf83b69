package supervisor

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

// TestAThousandCrashes: a crash loop costs neither goroutines nor descriptors
// nor memory, and no more starts than the policy allows. In virtual time.
func TestAThousandCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Spec{})
		starts := failsFast(s, process.Exit{Code: 1}, "")
		stop := runServer(t, s)

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
			t.Errorf("of %d restarts %v have a class, and the last class is %s", now.Restarts, now.RestartsBy, by)
		}
		stop()
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

// TestGivesUpAndComesBack: a permanent failure is tried twice; a changed file, or an
// operator, starts the server again.
func TestGivesUpAndComesBack(t *testing.T) {
	for name, repair := range map[string]func(*Server){
		"the model's file changes": func(s *Server) { _ = os.WriteFile(s.spec.Model, []byte("another model"), 0o600) },
		"an operator asks":         func(s *Server) { s.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{Model: t.TempDir() + "/m.gguf"})
				starts := failsFast(s, process.Exit{Code: 1}, ModelCorrupt)
				stop := runServer(t, s)
				time.Sleep(time.Hour)
				if now := s.Snapshot(); now.State != Failed || starts.Load() != 2 {
					t.Fatalf("%s (%s) after %d starts, want failed after 2", now.State, now.Reason, starts.Load())
				}
				repair(s)
				time.Sleep(time.Hour)
				if n := starts.Load(); n != 4 {
					t.Errorf("%d starts, want 2 more", n)
				}
				stop()
			})
		})
	}
}

// TestCanary: an idle server has to answer a test call every 5 minutes; one that
// does not is replaced, although it answers all probes.
func TestCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Spec{})
		var asked atomic.Int64
		var broken atomic.Bool
		staysUp(s, func() error {
			asked.Add(1)
			if broken.Load() {
				return errors.New("no answer")
			}
			return nil
		})
		stop := runServer(t, s)
		time.Sleep(16 * time.Minute)
		if now := s.Snapshot(); now.State != Ready || now.LastExit != nil {
			t.Fatalf("an idle server that answers is %s: %+v", now.State, now.LastExit)
		}
		if n := asked.Load(); n != 1+3 {
			t.Errorf("%d completions in 16 minutes, want one to become ready and three canaries", n)
		}
		broken.Store(true)
		time.Sleep(5*time.Minute + DefaultStallTimeout + 2*maxSampleInterval)
		if now := s.Snapshot(); now.State == Ready || now.LastExit == nil || now.LastExit.Class != Hung {
			t.Errorf("a broken idle server is %s: %+v", now.State, now.LastExit)
		}
		stop()
	})
}

// TestRestart: calls end first, and the exit does not count as a failure.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		s := newServer(t, Spec{Traffic: func() Traffic { return Traffic{Calls: int(calls.Load()), Bytes: time.Now().UnixNano()} }})
		staysUp(s, nil)
		stop := runServer(t, s)
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
		stop()
	})
}
