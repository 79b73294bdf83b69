// Package waiting begins the response of a stream before a backend has answered it, so that
// proxies and clients do not close its connection while the call waits for its model to load.
// The router calls it. It never decides what the call receives.
package waiting

import (
	"net/http"
	"time"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/responses"
	"github.com/llmsup/llmsup/router/wire"
)

// Stream is the response of a stream whose status and headers were sent. A backend's events, or
// an error event, follow.
type Stream struct {
	http.ResponseWriter
	control *http.ResponseController
}

// IsPossible reports whether a call asks for a stream of events.
func IsPossible(c *request.Request) bool {
	switch c.Dialect.(type) {
	case wire.Choices, wire.Responses, wire.Messages:
		return c.Body.Stream
	}
	return false
}

// Begin sends status 200 and the headers.
func Begin(w http.ResponseWriter) *Stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	return &Stream{w, http.NewResponseController(w)}
}

// Comment sends an event that clients ignore.
func (s *Stream) Comment() { s.send([]byte(": waiting for the model\n\n")) }

// AddTrailers makes trailers of the headers that were not known when the response began.
func (s *Stream) AddTrailers() {
	h := s.Header()
	for _, name := range []string{wire.HeaderBackend, wire.HeaderReason} {
		if values := h[name]; values != nil {
			h[http.TrailerPrefix+name] = values
		}
	}
}

// Fail ends the stream with an error event. As for a stream that breaks, net/http then aborts
// the connection: Fail does not return.
func (s *Stream) Fail(d wire.Dialect, e wire.Error) {
	event := d.ErrorEvent(e)
	if _, ok := d.(wire.Responses); ok {
		event = responses.New(nil, "", false).Error(event)
	}
	s.send(event)
	panic(http.ErrAbortHandler)
}

// writeTimeout is how long a client may take to receive an event. One that does not read keeps
// its place in the queue meanwhile.
const writeTimeout = 10 * time.Second

// send sends an event. If that fails, net/http cancels the call.
func (s *Stream) send(event []byte) {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer supports deadlines
	if _, err := s.Write(event); err == nil {
		_ = s.control.Flush()
	}
	_ = s.control.SetWriteDeadline(time.Time{}) // a backend's answer sets its own
}

// WriteHeader implements http.ResponseWriter. The status was sent before.
func (*Stream) WriteHeader(int) {}

// Unwrap is for http.ResponseController.
func (s *Stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }
