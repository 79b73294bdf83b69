package systemd

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// restarted: llmsup gets a signal after which it does nothing any more, and is
// started again, with one llama-server. Callers wait.
func (s *service) restarted(signal string, within time.Duration) {
	s.served()
	before, pid, engines := s.show("llmsup.service", "NRestarts"), s.show("llmsup.service", "MainPID"), s.engines()
	s.must("sh", "-c", "kill -"+signal+" "+pid)
	began := time.Now()
	transport := &http.Transport{DisableKeepAlives: true}
	if _, err := s.call(transport, "local/demo"); err != nil {
		s.t.Errorf("a call in the meantime: %v", err)
	}
	s.t.Logf("a call in the meantime was answered after %.1f s", time.Since(began).Seconds())
	s.await("systemd has started it again", within, func() bool {
		return s.show("llmsup.service", "NRestarts") != before && s.show("llmsup.service", "ActiveState") == "active"
	})
	s.served()
	now := s.engines()
	if len(now) != 1 || len(engines) != 1 || now[0] == engines[0] {
		s.t.Errorf("llama-servers %v run, before %v; want one, another one", now, engines)
	}
	s.unsaid() // the watchdog has Go write down what it was at
	if s.ask("sh", "-c", "kill -0 "+pid+" 2>/dev/null && echo alive") != "" {
		s.t.Errorf("the old llmsup, %s, is still there", pid)
	}
}

// restartUnderLoad: callers with a new connection for each call, callers that
// share some, and callers whose connection rests for seconds between two calls. No
// call fails, and none is made twice. There are five restarts, or as many as
// LLMSUP_TEST_RESTARTS says.
func (s *service) restartUnderLoad() {
	s.served()
	restarts := 5
	if n, err := strconv.Atoi(os.Getenv("LLMSUP_TEST_RESTARTS")); err == nil {
		restarts = n
	}
	ctx, cancel := context.WithCancel(context.Background())
	var calls, longest, onKept, afterRest atomic.Int64
	var callers sync.WaitGroup
	call := func(who string, transport http.RoundTripper) {
		began := time.Now()
		var conn httptrace.GotConnInfo
		traced := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { conn = got }})
		if _, err := s.callIn(traced, transport, "local/demo"); err != nil {
			s.t.Errorf("a call of %s: %v, after %s; its connection was reused: %t, after a rest of %s", who, err, time.Since(began), conn.Reused, conn.IdleTime)
		}
		calls.Add(1)
		if conn.Reused {
			onKept.Add(1)
		}
		if conn.IdleTime > time.Second {
			afterRest.Add(1)
		}
		for took, most := int64(time.Since(began)), longest.Load(); took > most && !longest.CompareAndSwap(most, took); most = longest.Load() {
		}
	}
	kept, fresh := &http.Transport{MaxIdleConnsPerHost: 20}, &http.Transport{DisableKeepAlives: true}
	defer kept.CloseIdleConnections()
	callers.Go(func() {
		tick := time.NewTicker(time.Second / 50)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			callers.Go(func() {
				if i%2 == 0 {
					call("many, each on a connection of its own", fresh)
				} else {
					call("many that share connections", kept)
				}
			})
		}
	})
	for range 40 {
		callers.Go(func() {
			own := &http.Transport{}
			defer own.CloseIdleConnections()
			for ctx.Err() == nil {
				call("one that rests", own)
				select {
				case <-ctx.Done():
				case <-time.After(rand.N(8 * time.Second)): // it may be longer than connections are lingered for
				}
			}
		})
	}
	for range restarts {
		before := calls.Load()
		s.await("50 calls are made", 20*time.Second, func() bool { return calls.Load() >= before+50 })
		s.must("systemctl", "restart", "llmsup.service")
	}
	before := calls.Load()
	s.await("50 calls are made", 20*time.Second, func() bool { return calls.Load() >= before+50 })
	cancel()
	callers.Wait()
	s.t.Logf("%d calls, %d on a kept connection, %d of them after a rest of over a second; %d restarts; the longest call took %.1f s",
		calls.Load(), onKept.Load(), afterRest.Load(), restarts, time.Duration(longest.Load()).Seconds())
}
