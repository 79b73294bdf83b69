package graceful

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestDrain: a request that is in flight at a stop gets its whole response. Where the
// socket is kept, so does one that arrives on an idle connection later, and its response
// announces that the connection closes.
func TestDrain(t *testing.T) {
	for name, tc := range map[string]struct {
		kept   bool
		before int // requests whose response is complete at the stop
	}{"in flight": {false, 0}, "on an idle connection": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			arrived, next := make(chan bool), make(chan bool)
			server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				arrived <- true
				<-next
				_, _ = io.WriteString(w, "answer")
			})}
			d := New(server, l, 100, tc.kept, nil)
			served := make(chan error, 1)
			go func() { served <- d.Serve() }()
			conn := dial(t, l.Addr().String())
			in := bufio.NewReader(conn)
			answer := func() (closes bool) {
				t.Helper()
				next <- true
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "answer" {
					t.Errorf("%q, %v", body, err)
				}
				return resp.Close
			}
			request := func() { post(t, conn, "1.1"); <-arrived }
			for range tc.before {
				request()
				if answer() {
					t.Error("a response before the stop announces that its connection closes")
				}
			}
			if tc.before == 0 {
				request()
			}
			ctx, cancel := context.WithTimeout(t.Context(), maxWait)
			defer cancel()
			drained := make(chan bool)
			d.Begin()
			go func() { defer close(drained); d.Drain(ctx) }()
			if tc.before > 0 {
				request()
			}
			if closes := answer(); closes != (tc.before > 0) {
				t.Errorf("the response announces that its connection closes: %t", closes)
			}
			<-drained
			if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
				t.Errorf("%q, %v; want EOF", rest, err)
			}
			if err := <-served; err != nil || ctx.Err() != nil || d.open() != 0 {
				t.Errorf("Serve returned %v; Drain ended with %v and %d connections", err, ctx.Err(), d.open())
			}
			if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
				t.Error("a connection is accepted after the stop")
			}
			if err := server.Shutdown(ctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}
