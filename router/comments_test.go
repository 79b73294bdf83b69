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

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// TestCommentsAlone: they keep a stream open that has begun, but not for ever.
func TestCommentsAlone(t *testing.T) {
	const idle = time.Minute
	// A comment that comes in the very moment of the watch's look may have it see a
	// client that does not read; on a test's clock that would be one look in four.
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
				a := &answer{
					resp: &http.Response{StatusCode: 200}, place: newPlace(&traffic{}, nil), load: &traffic{}, held: []byte(textEvent),
					idle: idle, events: wire.NewEventReader(body), cancel: func(err error) { _ = body.CloseWithError(err) },
				}
				began := time.Now()
				w := &slowClient{ResponseWriter: to, perPiece: tc.reads * pieceSize / time.Duration(len(comment))}
				err := a.relay(t.Context(), w, wire.Chat, &record{accounting: &accounting.Accounting{}, request: &request.Request{}, backend: "u"})
				if tc.whole && err != nil || !tc.whole && !errors.Is(err, errCut) {
					t.Errorf("%v after %s", err, time.Since(began))
				}
				late := time.Since(began) - commentsFor*idle
				if !tc.whole && (late < 0 || late > idle/ticksPerIdle || !strings.Contains(to.Body.String(), errStalled.Error())) {
					t.Errorf("ended %s late: %q", late, to.Body)
				}
			})
		})
	}
}
