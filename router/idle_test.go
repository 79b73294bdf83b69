package router

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/wire"
)

// TestCommentsKeepStreamOpen: comments keep a stream open that has begun, up to a limit.
func TestCommentsKeepStreamOpen(t *testing.T) {
	const idle = time.Minute
	// If a comment arrives at the moment of a check, the check may take the client for one
	// that does not read; on a virtual clock that would be one check in four.
	const pace = idle/2 + time.Millisecond
	comment := ": " + strings.Repeat("-", 100) + "\n\n" // longer than any event
	for name, tc := range map[string]struct {
		every, until time.Duration // comments, up to the text
		reads        time.Duration // how long the client takes for each
		times        int           // such rounds
		whole        bool
	}{
		"a pause for thought": {pace, 9 * idle, 0, 1, true},
		"several":             {pace, 9 * idle, 0, 3, true},
		"for ever":            {pace, 30 * idle, 0, 1, false},
		"a client that takes longer than its backend": {0, 0, idle * 9 / 10, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body, upstream := io.Pipe()
				done := make(chan struct{})
				defer func() { _ = body.Close(); <-done }()
				go func() {
					defer close(done)
					for range tc.times {
						began := time.Now()
						for i := 0; i < 15 || time.Since(began) < tc.until; i++ {
							time.Sleep(tc.every)
							if _, err := io.WriteString(upstream, comment); err != nil {
								return
							}
						}
						_, _ = io.WriteString(upstream, textEvent)
					}
					_, _ = io.WriteString(upstream, finalEvent+doneEvent)
					_ = upstream.Close()
				}()
				to := httptest.NewRecorder()
				w := &slowClient{ResponseWriter: to, perChunk: tc.reads * attempt.PieceSize / time.Duration(len(comment))}
				began, err := relayResponse(t, w, &http.Response{
					StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: prefixedPipe{strings.NewReader(textEvent), body},
				}, wire.Chat, idle)
				if tc.whole && err != nil || !tc.whole && !errors.Is(err, errTruncated) {
					t.Errorf("%v after %s", err, time.Since(began))
				}
				late := time.Since(began) - attempt.CommentLimit*idle
				if !tc.whole && (late < 0 || late > idle/attempt.TicksPerIdle || !strings.Contains(to.Body.String(), attempt.ErrStalled.Error())) {
					t.Errorf("ended %s late: %q", late, to.Body)
				}
			})
		})
	}
}

// prefixedPipe is a pipe that begins with a text.
type prefixedPipe struct {
	text *strings.Reader
	*io.PipeReader
}

func (p prefixedPipe) Read(b []byte) (int, error) {
	if p.text.Len() > 0 {
		return p.text.Read(b)
	}
	return p.PipeReader.Read(b)
}
