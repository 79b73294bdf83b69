package supervisor

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models/demo/demotest"
)

// slack is far more than a loaded machine adds to a time, where all that is told
// apart is a few seconds from a minute.
const slack = 8 * time.Second

// within repeats a measurement until it keeps its bound, a few times at most:
// what the load of the machine adds to a time is not the program's.
func within(t *testing.T, most time.Duration, measure func() time.Duration) {
	t.Helper()
	const tries = 4
	var took []time.Duration
	for range tries {
		took = append(took, measure())
		if took[len(took)-1] <= most {
			return
		}
	}
	t.Errorf("it took %s, want %s at most", took, most)
}

// TestHangingEngine: /health is good and /slots hangs. Within the stall timeout
// the server is taken out of use and replaced, though it has no call in flight.
func TestHangingEngine(t *testing.T) {
	const stall = time.Second
	within(t, stall+time.Second, func() time.Duration {
		s, _ := run(t, "wedges", Spec{StallTimeout: stall})
		now := await(t, s, "ready", isReady)
		began := time.Now()
		<-now.Exited
		took := time.Since(began)
		if given := s.Snapshot(); given.State != Restarting || !given.Hung {
			t.Errorf("its calls are told to move while it is %s, hung: %t", given.State, given.Hung)
		}
		ended := await(t, s, "an exit", func(n *Snapshot) bool { return n.LastExit != nil })
		if ended.LastExit.Class != Hung || !strings.Contains(ended.LastExit.Cause, "it answers /health but not /slots") {
			t.Errorf("exit %+v", ended.LastExit)
		}
		await(t, s, "a second process", func(n *Snapshot) bool { return n.PID != 0 && n.PID != now.PID })
		if alive(now.PID) {
			t.Error("the wedged process lives")
		}
		return took
	})
}

func TestLoadingThatStalls(t *testing.T) {
	s, _ := run(t, "mute", Spec{LoadTimeout: 700 * time.Millisecond})
	now := await(t, s, "an exit", func(n *Snapshot) bool { return n.LastExit != nil })
	if now.LastExit.Class != Stalled || !strings.Contains(now.LastExit.Cause, "no progress in loading") {
		t.Errorf("exit %+v", now.LastExit)
	}
}

// TestLoadingThatTakesLong: what makes progress may take longer than the
// deadline for making some.
func TestLoadingThatTakesLong(t *testing.T) {
	s, _ := run(t, "slow", Spec{LoadTimeout: 700 * time.Millisecond})
	if now := await(t, s, "ready or an exit", func(n *Snapshot) bool { return n.State == Ready || n.LastExit != nil }); now.State != Ready {
		t.Errorf("%s: %s", now.State, now.Reason)
	}
}

// TestLoadingBelowAWrapper: what a helper has read and what the engine reads
// are two things. A model that a wrapper first copies would never load else.
func TestLoadingBelowAWrapper(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SUPERVISOR_TEST_ROLE", "reads")
	// The helper reads ten times what the engine ever will, and is gone after that.
	wrapper := script(t, fmt.Sprintf("(for i in 1 2 3 4 5 6 7 8 9 0; do cat %s; done >/dev/null; sleep 0.5) & exec %s", self, self))
	s, _ := run(t, "", Spec{Binary: wrapper, Model: "none.gguf", LoadTimeout: 1500 * time.Millisecond})
	now := await(t, s, "an exit", func(n *Snapshot) bool { return n.LastExit != nil })
	if now.LastExit.Code != 3 {
		t.Errorf("it was ended though it read on: %+v", now.LastExit)
	}
}

func TestNotReadyWithoutACompletion(t *testing.T) {
	s, _ := run(t, "no answers", Spec{LoadTimeout: time.Second})
	now := await(t, s, "ready or an exit", func(n *Snapshot) bool { return n.State == Ready || n.LastExit != nil })
	if now.State == Ready {
		t.Fatal("ready, though no completion ever came back")
	}
	if want := "no completion came back: /completion answered 500"; now.LastExit.Class != Stalled || !strings.Contains(now.LastExit.Cause, want) {
		t.Errorf("exit %+v, want one with %q", now.LastExit, want)
	}
}

// TestRestartWhileLoading: what is loading is replaced at once.
func TestRestartWhileLoading(t *testing.T) {
	s, _ := run(t, "mute", Spec{StopGrace: time.Millisecond})
	first := await(t, s, "loading", func(n *Snapshot) bool { return n.State == Loading })
	s.Restart()
	now := await(t, s, "a second process", func(n *Snapshot) bool { return n.State == Loading && n.PID != first.PID })
	if now.LastExit != nil || now.Restarts != 1 {
		t.Errorf("%d restarts, last exit %+v: what was asked for is no failure", now.Restarts, now.LastExit)
	}
}

// TestImpostor: whoever answers 200 in the place of the child gets no call.
func TestImpostor(t *testing.T) {
	impostor := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer impostor.Close()
	t.Setenv("SUPERVISOR_TEST_ROLE", "polite")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	s := New(Spec{Name: "test", Binary: self, Dir: dir}, nopLog, nil)
	s.start = func(_ context.Context, out *lineWriter) (child, Endpoint, error) {
		p, err := launch(self, []string{"--host", dir + "/elsewhere.sock"}, os.Environ(), out)
		return p, Endpoint{Network: "tcp", Address: impostor.Listener.Addr().String()}, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	now := await(t, s, "ready or an exit", func(n *Snapshot) bool { return n.State == Ready || n.LastExit != nil })
	if now.State == Ready {
		t.Fatal("it is ready, with an impostor's endpoint")
	}
	if now.LastExit.Class != PortTaken || !strings.Contains(now.LastExit.Cause, "somebody else listens there") {
		t.Errorf("exit %+v", now.LastExit)
	}
}

// TestRealServerStopped: SIGSTOP looks like nothing at all from outside. The
// server is found hung, with calls in flight and without.
func TestRealServerStopped(t *testing.T) {
	for name, calls := range map[string]int{"idle": 0, "busy": 3} {
		t.Run(name, func(t *testing.T) {
			const stall = 1500 * time.Millisecond
			within(t, stall+time.Second, func() time.Duration {
				s, _ := run(t, "", Spec{
					Binary: llamaServer(t), Model: demoModel(t), StallTimeout: stall,
					Traffic: func() Traffic { return Traffic{Calls: calls, Waiting: calls} },
				})
				now := await(t, s, "ready", isReady)
				if err := syscall.Kill(now.PID, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				<-now.Exited
				took := time.Since(began)
				again := await(t, s, "ready again", func(n *Snapshot) bool { return n.State == Ready && n.PID != now.PID })
				if again.LastExit.Class != Hung || alive(now.PID) {
					t.Errorf("exit %+v", again.LastExit)
				}
				return took
			})
		})
	}
}

// TestRealServerThatIsBusy: four slots full of prompts that take far longer
// than the stall timeout, on an engine whose counters stand still for as long
// as a batch takes. It is left alone, below a wrapper script as well.
//
// The times are a tenth of the real ones, unless LLMSUP_TEST_REAL_TIMES is set,
// as .ci/run does: then it is 90 s of prefill with a stall timeout of 30 s.
func TestRealServerThatIsBusy(t *testing.T) {
	stall, busy := 3*time.Second, 9*time.Second
	if os.Getenv("LLMSUP_TEST_REAL_TIMES") != "" {
		stall, busy = DefaultStallTimeout, 90*time.Second
	}
	t.Run("by itself", func(t *testing.T) { staysBusy(t, llamaServer(t), stall, busy) })
	t.Run("below a wrapper", func(t *testing.T) {
		staysBusy(t, script(t, llamaServer(t)+` "$@"; exit $?`), 2*time.Second, 6*time.Second)
	})
}

func staysBusy(t *testing.T, binary string, stall, busy time.Duration) {
	t.Helper()
	var calls atomic.Int64
	s, _ := run(t, "", Spec{
		Binary: binary, Model: demotest.Slow(t), StallTimeout: stall, StopGrace: time.Millisecond,
		Args:    []string{"--threads", "1", "-np", "4", "-b", "2048", "-ub", "2048"},
		Traffic: func() Traffic { return Traffic{Waiting: int(calls.Load())} }, // the router has had no byte of them
	})
	now := await(t, s, "ready", isReady)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	prompt := `{"n_predict":1,"cache_prompt":false,"prompt":"` + strings.Repeat(" 57", 1900) + `"}`
	var sent sync.WaitGroup
	for range 4 {
		sent.Go(func() {
			for ctx.Err() == nil { // however fast the machine is
				calls.Add(1)
				status, _, _ := newProber(now.Endpoint, time.Minute).ask(ctx, http.MethodPost, "/completion", prompt)
				calls.Add(-1)
				if ctx.Err() == nil && status != http.StatusOK {
					t.Errorf("a busy server's call came to %d", status)
				}
			}
		})
	}
	select {
	case <-now.Exited:
		t.Errorf("a busy server was ended: %s", s.Snapshot().Reason)
	case <-time.After(busy):
	}
	cancel()
	sent.Wait()
}
