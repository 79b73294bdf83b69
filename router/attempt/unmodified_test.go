package attempt

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// fakeLocal is a local server in a fixed state.
type fakeLocal backend.LocalState

func (f *fakeLocal) State() backend.LocalState            { return backend.LocalState(*f) }
func (*fakeLocal) AddDemand(bool)                         {}
func (*fakeLocal) Engine() *models.Capabilities           { return &models.Capabilities{} }
func (*fakeLocal) BusySlots(context.Context) (int, error) { return 0, nil }

// serve serves requests with answer, which gets their bodies, and returns the bodies.
func serve(t *testing.T, answer func(w http.ResponseWriter, body string)) (s *httptest.Server, bodies *[]string) {
	t.Helper()
	bodies = new([]string)
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*bodies = append(*bodies, string(body)) // the requests come one after the other
		answer(w, string(body))
	}))
	t.Cleanup(s.Close)
	return s, bodies
}

// TestUnmodifiedAtUpstream: an upstream that rejects the field that llmsup adds to a stream
// is sent the call once more as the client wrote it, and later calls only so.
func TestUnmodifiedAtUpstream(t *testing.T) {
	s, bodies := serve(t, func(w http.ResponseWriter, body string) {
		if strings.Contains(body, "stream_options") {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"detail":"stream_options: extra inputs are not permitted"}`)
			return
		}
		w.Header().Set("Content-Type", eventStream)
		_, _ = io.WriteString(w, textEvent)
	})
	b, err := backend.NewUpstream(backend.UpstreamConfig{Name: "u", BaseURL: s.URL, Key: "secret"}, "via", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Transport().CloseIdleConnections)
	for i, want := range []int{2, 3} {
		a, failed := Start(t.Context(), params(t, b, true))
		if failed != nil {
			t.Fatalf("call %d: %+v", i, failed)
		}
		a.Close()
		if len(*bodies) != want || strings.Contains((*bodies)[want-1], "stream_options") {
			t.Errorf("call %d: %q", i, *bodies)
		}
	}
}

// TestUnmodifiedAtServer: a local server whose stream format is unknown is sent the
// non-streaming call once more as the client wrote it, and later calls only so.
func TestUnmodifiedAtServer(t *testing.T) {
	s, bodies := serve(t, func(w http.ResponseWriter, body string) {
		if strings.Contains(body, `"stream"`) {
			w.Header().Set("Content-Type", eventStream)
			_, _ = io.WriteString(w, "event: unknown\n"+textEvent)
			return
		}
		w.Header().Set("Content-Type", jsonType)
		_, _ = io.WriteString(w, wholeChat)
	})
	b := backend.NewServer("qwen", &fakeLocal{
		Alive: true, Network: "tcp", Address: s.Listener.Addr().String(), SupportsAggregation: true, Gone: make(chan struct{}),
	}, nil)
	for i, want := range []int{2, 3} {
		a, failed := Start(t.Context(), params(t, b, false))
		if failed != nil {
			t.Fatalf("call %d: %+v", i, failed)
		}
		if string(a.Held) != wholeChat {
			t.Errorf("call %d: %q", i, a.Held)
		}
		a.Close()
		if len(*bodies) != want || strings.Contains((*bodies)[want-1], `"stream"`) {
			t.Errorf("call %d: %q", i, *bodies)
		}
	}
}
