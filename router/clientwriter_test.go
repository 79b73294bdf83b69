package router

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/wire"
)

// flushRecorder counts the flushes, which would be writes to the network.
type flushRecorder struct {
	*httptest.ResponseRecorder
	flushes int
}

func (f *flushRecorder) FlushError() error {
	f.flushes++
	return nil
}

// TestFlushOncePerBurst: events that arrive together are sent together, complete and in
// order, and before an error event that arrived with them.
func TestFlushOncePerBurst(t *testing.T) {
	const late = `data: {"error":{"message":"late"}}` + "\n\n"
	for name, tc := range map[string]struct {
		events  string
		unsent  string // the end of them, which the client does not get
		flushes int
		err     error
	}{
		"a few events":       {strings.Repeat(textEvent, 5) + finalEvent + doneEvent, "", 1, nil},
		"an error event":     {strings.Repeat(textEvent, 5) + late, "", 2, errTruncated},
		"one after the end":  {textEvent + finalEvent + doneEvent + late, late, 1, nil},
		"more than a piece":  {strings.Repeat(textEvent, 2*attempt.PieceSize/len(textEvent)+1) + doneEvent, "", 2*attempt.PieceSize/(4<<10) + 3, nil}, // a flush for each 4 KB that are read
		"half an event more": {textEvent + textEvent + textEvent[:10], textEvent[:10], 2, errTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			w := &flushRecorder{ResponseRecorder: httptest.NewRecorder()}
			_, err := relayResponse(t, w, &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(tc.events)),
			}, wire.Chat, 0)
			if !errors.Is(err, tc.err) || w.flushes > tc.flushes {
				t.Errorf("%v, with %d flushes, want %v and %d", err, w.flushes, tc.err, tc.flushes)
			}
			want := strings.TrimSuffix(tc.events, tc.unsent)
			if got := w.Body.String(); !strings.HasPrefix(got, want) || tc.err == nil && got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
