package supervisor

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

// TestForeignListener: a server gets no calls if another process answers at its
// address.
func TestForeignListener(t *testing.T) {
	foreign, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	s := newServer(t, Spec{})
	s.verifyListener = process.VerifyListener
	s.start = func(_ context.Context, out io.Writer) (child, Command, error) {
		p, err := process.Start(process.Command{Path: "/bin/sleep", Args: []string{"300"}}, out)
		return p, Command{Endpoint: Endpoint{Network: "tcp", Address: foreign.Addr().String()}}, err
	}
	defer runServer(t, s)()
	now := s.Snapshot()
	for ; now.State != Ready && now.LastExit == nil; now = s.Snapshot() {
		<-now.Changed
	}
	if now.State == Ready {
		t.Fatal("it is ready, although another process listens")
	}
	if now.LastExit.Class != PortTaken || !strings.Contains(now.LastExit.Cause, "another process is listening on this address") {
		t.Errorf("exit %+v", now.LastExit)
	}
}

// TestLoadingStalls: without progress, LoadTimeout ends a process that loads; the
// cause shows how far it has come.
func TestLoadingStalls(t *testing.T) {
	failing := func() error { return errors.New("it answered 500") }
	for name, tc := range map[string]struct {
		engine fakeEngine
		reason string // while it loads
		cause  string
	}{
		"while it loads":         {fakeEngine{loaded: func() error { return ErrLoading }}, "", "it made no progress in loading for 2m0s"},
		"without an answer":      {fakeEngine{complete: failing}, ": it answered 500", "it has loaded its model and answered no test call for 2m0s: it answered 500"},
		"and it does not listen": {fakeEngine{loaded: func() error { return errors.New("refused") }}, "", "it made no progress in loading for 2m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Spec{})
				s.engine = tc.engine
				defer runServer(t, s)()
				time.Sleep(DefaultLoadTimeout - time.Second)
				wantState(t, s, Loading, tc.reason)
				time.Sleep(1500 * time.Millisecond) // and not yet the next start
				if now := wantState(t, s, Restarting, "next start in"); now.LastExit.Class != Stalled || !strings.Contains(now.LastExit.Cause, tc.cause) {
					t.Errorf("exit %+v, want %q", now.LastExit, tc.cause)
				}
			})
		})
	}
}

// TestLoadingWithProgress: output extends the load timeout, until the model is loaded.
func TestLoadingWithProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Spec{})
		loadedAt := time.Now().Add(5 * time.Minute)
		s.engine = fakeEngine{loaded: func() error {
			if time.Now().Before(loadedAt) {
				return ErrLoading
			}
			return nil
		}}
		defer runServer(t, s)()
		for range 4 {
			time.Sleep(time.Minute)
			s.output.Add("still loading", false)
		}
		time.Sleep(time.Minute - time.Second)
		wantState(t, s, Loading, "")
		time.Sleep(2 * time.Second)
		if now := s.Snapshot(); now.LastExit != nil || now.LoadDuration < 5*time.Minute {
			t.Errorf("%s after a load of %s, exit %+v", now.State, now.LoadDuration, now.LastExit)
		}
	})
}

func TestLoadProgress(t *testing.T) {
	const mb = 1 << 20
	for name, tc := range map[string]struct {
		lines  uint64
		usage  map[int]process.Usage
		loaded bool
		want   bool
	}{
		"nothing":                {1, map[int]process.Usage{1: {Read: 10 * mb, Resident: 10 * mb}}, false, false},
		"a line":                 {2, map[int]process.Usage{1: {Read: 10 * mb}}, false, true},
		"a line, once loaded":    {2, map[int]process.Usage{1: {Read: 10 * mb}}, true, false},
		"it reads":               {1, map[int]process.Usage{1: {Read: 11 * mb}}, false, true},
		"it reads, once loaded":  {1, map[int]process.Usage{1: {Read: 11 * mb}}, true, true},
		"it grows":               {1, map[int]process.Usage{1: {Read: 10 * mb, Resident: 11 * mb}}, false, true},
		"answers to the probes":  {1, map[int]process.Usage{1: {Read: 10*mb + 1000}}, false, false},
		"a helper has ended":     {1, map[int]process.Usage{2: {Read: 2 * mb}}, false, true},
		"and another one is new": {1, map[int]process.Usage{1: {Read: 10 * mb}, 3: {Read: 1000}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newLoadProgress(false)
			p.made(1, map[int]process.Usage{1: {Read: 10 * mb, Resident: 10 * mb}}, false)
			if got := p.made(tc.lines, tc.usage, tc.loaded); got != tc.want {
				t.Errorf("progress: %t, want %t", got, tc.want)
			}
		})
	}
}
