package page

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/router/wire"
)

const (
	// keepAlive is shorter than the time after which proxies close an idle connection.
	keepAlive = 15 * time.Second
	// writeTimeout is how long a page may take to read an event.
	writeTimeout = 30 * time.Second
	// maxStreams limits the open pages: each has a connection.
	maxStreams = 256
)

// viewerSection is the section of the viewer itself.
type viewerSection struct {
	Key      string `json:"key"` // its name
	Operator bool   `json:"operator"`
	Keys     bool   `json:"keys"` // are configured
	Commands bool   `json:"commands"`
	Why      string `json:"why"`
}

// events sends the sections, and then what changes of them, until the client closes the
// connection, llmsup stops, or the viewer's rights change. The page then connects again.
func (h *Handler) events(w http.ResponseWriter, r *http.Request, v viewer) {
	if n := h.open.Add(1); n > maxStreams {
		h.open.Add(-1)
		writeError(w, wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: "too_many_pages",
			Message: fmt.Sprintf("%d pages are open, which is the limit; close some", maxStreams),
		})
		return
	}
	defer h.open.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()

	reader := h.o.Feed.Subscribe(v.Viewer, r.Header.Get("Last-Event-ID"))
	defer reader.Close()
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Connection", "close") // the stream ends with its connection, so that a stop need not wait for it
	header.Set("X-Accel-Buffering", "no")
	out := stream{w: w, control: http.NewResponseController(w)}
	self := wire.MustJSON(viewerSection{v.key.KeyName(), v.Operator, v.key != nil, v.commands, v.why})
	if id := reader.Resumed(); id != "" { // there may be no change for long
		out.update(feed.Update{ID: id}, self)
		self = nil
	}
	for out.err == nil {
		limited, cancel := context.WithTimeout(ctx, keepAlive)
		u, err := reader.Next(limited)
		cancel()
		if now, ok := h.identify(r); ctx.Err() != nil || !ok || !now.same(v) {
			return
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			out.write(": \n\n")
		case err != nil:
			return
		default:
			out.update(u, self)
			self = nil
		}
	}
}

// same reports whether two viewers have the same rights.
func (v viewer) same(o viewer) bool {
	return v.Viewer == o.Viewer && v.key.KeyName() == o.key.KeyName() && (v.key == nil) == (o.key == nil) && v.commands == o.commands && v.why == o.why
}

// stream writes server-sent events. It keeps the first error.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

// update writes an update as an event. self is the viewer's section; nil = it was sent.
func (s *stream) update(u feed.Update, self []byte) {
	name := "change"
	if u.Full {
		name = "snapshot"
	}
	event := fmt.Appendf(make([]byte, 0, len(u.Sections)+1024), "id: %s\nevent: %s\ndata: {", u.ID, name)
	if self != nil {
		event = append(append(event, `"viewer":`...), self...)
	}
	if self != nil && len(u.Sections) > 0 {
		event = append(event, ',')
	}
	event = append(append(event, u.Sections...), "}\n\n"...)
	s.write(string(event))
}

func (s *stream) write(event string) {
	if s.err == nil {
		s.err = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	if s.err == nil {
		_, s.err = s.w.Write([]byte(event))
	}
	if s.err == nil {
		s.err = s.control.Flush()
	}
}
