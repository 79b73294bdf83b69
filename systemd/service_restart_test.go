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

// restarted: llmsup gets a signal that stops or kills it, and systemd starts it again,
// with one llama-server. Calls wait for it.
func (s *service) restarted(signal string) {
	s.awaitServed()
	before, pid, engines := s.show("llmsup.service", "NRestarts"), s.show("llmsup.service", "MainPID"), s.engines()
	s.must("sh", "-c", "kill -"+signal+" "+pid)
	began := time.Now()
	transport := &http.Transport{DisableKeepAlives: true}
	_, err := s.call(transport, "local/demo")
	if (errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)) && signal == "STOP" {
		// To end a stopped process systemd sends SIGABRT and SIGCONT. On a busy machine its
		// threads can accept a call before it exits.
		s.t.Logf("the ending process had accepted the call: %v", err)
		_, err = s.call(transport, "local/demo")
	}
	if err != nil {
		s.t.Errorf("a call in the meantime: %v", err)
	}
	s.t.Logf("a call in the meantime was answered after %.1f s", time.Since(began).Seconds())
	s.await("systemd has started it again", func() bool {
		return s.show("llmsup.service", "NRestarts") != before && s.show("llmsup.service", "ActiveState") == "active"
	})
	s.awaitServed()
	now := s.engines()
	if len(now) != 1 || len(engines) != 1 || now[0] == engines[0] {
		s.t.Errorf("llama-servers %v run, before %v; want one new process", now, engines)
	}
	s.wantKeyNotLogged() // after SIGABRT, Go logs its goroutines
	if s.ask("sh", "-c", "kill -0 "+pid+" 2>/dev/null && echo alive") != "" {
		s.t.Errorf("the old llmsup, process %s, still runs", pid)
	}
}

// restartUnderLoad restarts llmsup under clients with a new connection for each call,
// clients that share connections, and clients whose connection is idle for seconds. No
// call fails, and none is made twice. There are two restarts, five with
// LLMSUP_TEST_REAL_TIMES, or LLMSUP_TEST_RESTARTS.
//
// One case is counted and not a failure: a call on an idle connection that llmsup has
// closed, if the client has not read the close yet. HTTP/1.1 cannot announce the close of
// an idle connection, so clients must repeat such a call (RFC 9112, 9.3.1).
func (s *service) restartUnderLoad() {
	s.awaitServed()
	restarts := 2
	if realTimes {
		restarts = 5
	}
	if n, err := strconv.Atoi(os.Getenv("LLMSUP_TEST_RESTARTS")); err == nil {
		restarts = n
	}
	ctx, cancel := context.WithCancel(context.Background())
	const linger = 5 * time.Second // as in the daemon
	var calls, longest, onKept, afterRest, tooLate atomic.Int64
	var clients sync.WaitGroup
	call := func(who string, transport http.RoundTripper) {
		began := time.Now()
		var conn httptrace.GotConnInfo
		traced := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
			if conn = got; got.Reused {
				got.Conn.(*watchedConn).inTime.Store(false)
			}
		}})
		_, err := s.callIn(traced, transport, "local/demo")
		if c, ok := conn.Conn.(*watchedConn); err != nil && ok && !c.inTime.Load() && conn.IdleTime+time.Since(began) >= linger { // it may be written long after it got the connection
			s.t.Logf("a call of %s was written after the close of its connection, which had been idle for %s: %v", who, conn.IdleTime, err)
			tooLate.Add(1)
			_, err = s.callIn(traced, transport, "local/demo")
		}
		if err != nil {
			s.t.Errorf("a call of %s: %v, after %s; its connection was reused: %t, after %s idle", who, err, time.Since(began), conn.Reused, conn.IdleTime)
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
	kept, newConnections := &http.Transport{MaxIdleConnsPerHost: 20, DialContext: dialWatched}, &http.Transport{DisableKeepAlives: true}
	defer kept.CloseIdleConnections()
	clients.Go(func() {
		tick := time.NewTicker(time.Second / 50)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			clients.Go(func() {
				if i%2 == 0 {
					call("clients with new connections", newConnections)
				} else {
					call("clients that share connections", kept)
				}
			})
		}
	})
	for range 40 {
		clients.Go(func() {
			own := &http.Transport{DialContext: dialWatched}
			defer own.CloseIdleConnections()
			for ctx.Err() == nil {
				call("a client with an idle connection", own)
				select {
				case <-ctx.Done():
				case <-time.After(rand.N(8 * time.Second)): // may be longer than the daemon lingers
				}
			}
		})
	}
	for range restarts {
		before := calls.Load()
		s.await("50 calls are made", func() bool { return calls.Load() >= before+50 })
		s.must("systemctl", "restart", "llmsup.service")
	}
	before := calls.Load()
	s.await("50 calls are made", func() bool { return calls.Load() >= before+50 })
	cancel()
	clients.Wait()
	s.t.Logf("%d calls, %d on a kept connection, %d of them after more than a second idle; %d restarts; the longest call took %.1f s; %d were written after the close of their connection",
		calls.Load(), onKept.Load(), afterRest.Load(), restarts, time.Duration(longest.Load()).Seconds(), tooLate.Load())
	if n := int(tooLate.Load()); n > 3+restarts/10 {
		s.t.Errorf("%d calls were written after the close of their connection: too many to be chance", n)
	}
}

// watchedConn records whether a write came before the server closed the connection.
type watchedConn struct {
	*net.TCPConn
	inTime atomic.Bool
}

func dialWatched(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &watchedConn{TCPConn: conn.(*net.TCPConn)}, nil
}

func (c *watchedConn) Write(p []byte) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	const established = 1              // include/net/tcp_states.h; otherwise the server has closed it
	_ = raw.Control(func(fd uintptr) { // its error is that of the Write
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || info.State == established {
			c.inTime.Store(true)
		}
	})
	return c.TCPConn.Write(p)
}

// ReadFrom makes net/http use Write.
func (c *watchedConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}
