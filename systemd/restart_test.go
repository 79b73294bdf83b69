package systemd

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// restarted: llmsup gets a signal after which it does nothing any more, and is
// started again, with one llama-server. Callers wait.
func (s *service) restarted(signal string, within time.Duration) {
	s.served()
	before, pid, engines := s.show("llmsup.service", "NRestarts"), s.show("llmsup.service", "MainPID"), s.engines()
	s.must("sh", "-c", "kill -"+signal+" "+pid)
	began := time.Now()
	transport := &http.Transport{DisableKeepAlives: true}
	_, err := s.call(transport, "local/demo")
	if (errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)) && signal == "STOP" {
		// To end a stopped process systemd sends SIGABRT and SIGCONT. On a busy machine
		// its threads run for a moment before it ends, and can accept a call.
		s.t.Logf("the process that was ended had accepted the call: %v", err)
		_, err = s.call(transport, "local/demo")
	}
	if err != nil {
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
// call fails, and none is made twice. There are two restarts, five with
// LLMSUP_TEST_REAL_TIMES, or as many as LLMSUP_TEST_RESTARTS says.
//
// One case is counted and no failure: a call on a connection that has rested for so
// long that llmsup has ended it, written when the end was in its caller's own kernel, and the
// caller had not looked. HTTP/1.1 has no way to announce the end of a connection on
// which nothing is asked; so a client has to make such a call again (RFC 9112, 9.3.1).
func (s *service) restartUnderLoad() {
	s.served()
	restarts := 2
	if realTimes {
		restarts = 5
	}
	if n, err := strconv.Atoi(os.Getenv("LLMSUP_TEST_RESTARTS")); err == nil {
		restarts = n
	}
	ctx, cancel := context.WithCancel(context.Background())
	const linger = 5 * time.Second // as the daemon has it
	var calls, longest, onKept, afterRest, tooLate atomic.Int64
	var callers sync.WaitGroup
	call := func(who string, transport http.RoundTripper) {
		began := time.Now()
		var conn httptrace.GotConnInfo
		traced := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
			if conn = got; got.Reused {
				got.Conn.(*callersConn).inTime.Store(false)
			}
		}})
		_, err := s.callIn(traced, transport, "local/demo")
		if c, ok := conn.Conn.(*callersConn); err != nil && ok && !c.inTime.Load() && conn.IdleTime >= linger {
			s.t.Logf("a call of %s was written after the end of its connection, which had rested for %s: %v", who, conn.IdleTime, err)
			tooLate.Add(1)
			_, err = s.callIn(traced, transport, "local/demo")
		}
		if err != nil {
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
	kept, fresh := &http.Transport{MaxIdleConnsPerHost: 20, DialContext: dialWatched}, &http.Transport{DisableKeepAlives: true}
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
			own := &http.Transport{DialContext: dialWatched}
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
	s.t.Logf("%d calls, %d on a kept connection, %d of them after a rest of over a second; %d restarts; the longest call took %.1f s; %d were written after the end of their connection",
		calls.Load(), onKept.Load(), afterRest.Load(), restarts, time.Duration(longest.Load()).Seconds(), tooLate.Load())
	if n := int(tooLate.Load()); n > 3+restarts/10 {
		s.t.Errorf("%d calls were written after the end of their connection: that is no chance", n)
	}
}

// callersConn knows whether something was written to it before its end had come.
type callersConn struct {
	*net.TCPConn
	inTime atomic.Bool
}

func dialWatched(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &callersConn{TCPConn: conn.(*net.TCPConn)}, nil
}

func (c *callersConn) Write(p []byte) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	const established = 1              // include/net/tcp_states.h; else the other end has closed it
	_ = raw.Control(func(fd uintptr) { // its error is that of the Write
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || info.State == established {
			c.inTime.Store(true)
		}
	})
	return c.TCPConn.Write(p)
}

// ReadFrom keeps net/http from writing past Write.
func (c *callersConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}
