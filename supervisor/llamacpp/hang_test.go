package llamacpp

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/supervisor"
)

// TestEngineHangs: /health answers and /slots does not. Within the stall timeout the
// server is taken out of use and replaced, although it has no call in flight.
func TestEngineHangs(t *testing.T) {
	const stall = 6 * time.Second // a busy process answers /health in that time
	within(t, stall+3*time.Second, func() time.Duration {
		s, _ := runRole(t, "hangs", supervisor.Spec{StallTimeout: stall})
		now := await(t, s, "ready", isReady)
		began := time.Now()
		<-now.Exited
		took := time.Since(began)
		if given := s.Snapshot(); given.State != supervisor.Restarting || !given.Hung {
			t.Logf("Exited is closed while it is %s, hung: %t", given.State, given.Hung)
			took = time.Hour // a busy machine may show a later state, once
		}
		ended := await(t, s, "an exit", hasExited)
		if ended.LastExit.Class != supervisor.Hung || !strings.Contains(ended.LastExit.Cause, "it answers /health but not /slots") {
			t.Errorf("exit %+v", ended.LastExit)
		}
		await(t, s, "a second process", func(n *supervisor.Snapshot) bool { return n.PID != 0 && n.PID != now.PID })
		if exists(now.PID) {
			t.Error("the process that hung still runs")
		}
		return took
	})
}

func TestLoadingThatStalls(t *testing.T) {
	s, _ := runRole(t, "loads for ever", supervisor.Spec{LoadTimeout: 700 * time.Millisecond})
	now := await(t, s, "an exit", hasExited)
	if now.LastExit.Class != supervisor.Stalled || !strings.Contains(now.LastExit.Cause, "no progress in loading") {
		t.Errorf("exit %+v", now.LastExit)
	}
}

// TestLoadingThatTakesLong: a load that makes progress may take longer than the load
// timeout.
func TestLoadingThatTakesLong(t *testing.T) {
	s, _ := runRole(t, "loads slowly", supervisor.Spec{LoadTimeout: 10 * time.Second})
	if now := await(t, s, "ready or an exit", readyOrExited); now.State != supervisor.Ready {
		t.Errorf("%s: %s", now.State, now.Reason)
	}
}

// TestLoadingBelowAWrapper: what a wrapper's helper has read does not hide what the
// engine reads. Otherwise a model that a wrapper first copies would never load.
func TestLoadingBelowAWrapper(t *testing.T) {
	self := asRole(t, "reads")
	// The helper reads ten times what the engine will, and ends.
	wrapper := script(t, fmt.Sprintf("(for i in 1 2 3 4 5 6 7 8 9 0; do cat %s; done >/dev/null; sleep 0.5) & exec %s", self, self))
	s, _ := run(t, supervisor.Spec{Binary: wrapper, Model: "none.gguf", LoadTimeout: 10 * time.Second})
	now := await(t, s, "an exit", hasExited)
	if now.LastExit.Code != 3 {
		t.Errorf("it was ended although it still read: %+v", now.LastExit)
	}
}

func TestNotReadyWithoutATestCall(t *testing.T) {
	const limit = 5 * time.Second
	s, _ := runRole(t, "answers no test call", supervisor.Spec{LoadTimeout: limit})
	const answer = "/completion answered 500: Compute  error."
	await(t, s, "a reason", func(n *supervisor.Snapshot) bool {
		return n.State == supervisor.Loading && n.Reason == "it has loaded its model, but answers no test call: "+answer
	})
	// A busy machine may load for so long that the first exits have another cause.
	var after string
	now := await(t, s, "ready or an exit after test calls", func(n *supervisor.Snapshot) bool {
		if hasExited(n) {
			_, cause, _ := strings.Cut(n.LastExit.Cause, "answered no test call for ")
			after, _, _ = strings.Cut(cause, ": "+answer)
		}
		return isReady(n) || after != ""
	})
	if now.State == supervisor.Ready {
		t.Fatal("ready, though no test call was ever answered")
	}
	if took, err := time.ParseDuration(after); err != nil || took < limit || now.LastExit.Class != supervisor.Stalled {
		t.Errorf("exit %+v", now.LastExit)
	}
}

// TestRestartWhileLoading: a process that is loading is replaced at once.
func TestRestartWhileLoading(t *testing.T) {
	s, _ := runRole(t, "loads for ever", supervisor.Spec{StopGrace: time.Millisecond})
	first := await(t, s, "loading", func(n *supervisor.Snapshot) bool { return n.State == supervisor.Loading })
	s.Restart()
	now := await(t, s, "a second process", func(n *supervisor.Snapshot) bool { return n.State == supervisor.Loading && n.PID != first.PID })
	if now.LastExit != nil || now.Restarts != 1 {
		t.Errorf("%d restarts, last exit %+v: a restart is no failure", now.Restarts, now.LastExit)
	}
}

// TestRealServerStopped: a server that SIGSTOP has stopped is found to hang, with calls
// in flight and without.
func TestRealServerStopped(t *testing.T) {
	for name, calls := range map[string]int{"idle": 0, "busy": 3} {
		t.Run(name, func(t *testing.T) {
			const stall = 1500 * time.Millisecond
			within(t, stall+3*time.Second, func() time.Duration {
				s, _ := run(t, supervisor.Spec{
					Binary: llamaServer(t), Model: demoModel(t), StallTimeout: stall,
					Traffic: func() supervisor.Traffic { return supervisor.Traffic{Calls: calls, Waiting: calls} },
				})
				now := await(t, s, "ready", isReady)
				if err := syscall.Kill(now.PID, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				<-now.Exited
				took := time.Since(began)
				again := await(t, s, "ready again", func(n *supervisor.Snapshot) bool { return n.State == supervisor.Ready && n.PID != now.PID })
				if again.LastExit.Class != supervisor.Hung || exists(now.PID) {
					t.Errorf("exit %+v", again.LastExit)
				}
				return took
			})
		})
	}
}

// TestRealServerThatIsBusy: four slots with prompts that take far longer than the
// stall timeout, on an engine whose counters stand still for the time of a batch. The
// server is not replaced, below a wrapper script neither.
//
// The times are a tenth of the real ones, unless LLMSUP_TEST_REAL_TIMES is set,
// as .ci/run does: then it is 45 s of prefill with a stall timeout of 30 s, or 90 s if
// LLMSUP_TEST_LONG is set too.
func TestRealServerThatIsBusy(t *testing.T) {
	stall, busy := 3*time.Second, 9*time.Second
	if os.Getenv("LLMSUP_TEST_REAL_TIMES") != "" {
		stall, busy = supervisor.DefaultStallTimeout, 45*time.Second
		if os.Getenv("LLMSUP_TEST_LONG") != "" {
			busy = 90 * time.Second
		}
	}
	prompt := strings.Repeat(" 57", 1900)
	completion := `{"n_predict":1,"cache_prompt":false,"prompt":"` + prompt + `"}`
	t.Run("by itself", func(t *testing.T) { staysBusy(t, llamaServer(t), stall, busy, "/completion", completion) })
	t.Run("below a wrapper", func(t *testing.T) {
		staysBusy(t, script(t, llamaServer(t)+` "$@"; exit $?`), 2*time.Second, 6*time.Second, "/completion", completion)
	})
	t.Run("with embeddings", func(t *testing.T) {
		staysBusy(t, llamaServer(t), 2*time.Second, 6*time.Second, "/embedding", `{"content":"`+prompt+`"}`, "--embeddings", "--pooling", "mean")
	})
}

// staysBusy keeps the slots busy with one kind of call.
func staysBusy(t *testing.T, binary string, stall, busy time.Duration, path, body string, flags ...string) {
	t.Helper()
	var calls atomic.Int64
	s, _ := run(t, supervisor.Spec{
		Binary: binary, Model: demotest.Slow(t), CtxSize: 8192, StallTimeout: stall, StopGrace: time.Millisecond,
		Args:    append([]string{"--threads", "1", "-np", "4", "-b", "2048", "-ub", "2048"}, flags...),
		Traffic: func() supervisor.Traffic { return supervisor.Traffic{Waiting: int(calls.Load())} }, // the router has had no byte of them
	})
	now := await(t, s, "ready", isReady)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent sync.WaitGroup
	for range 4 {
		sent.Go(func() {
			for ctx.Err() == nil { // however fast the machine is
				calls.Add(1)
				status, _, _ := newProbe(now.Endpoint, models.Description{}, time.Minute).do(ctx, http.MethodPost, path, body)
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
