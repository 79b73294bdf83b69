package page

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
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
	// maxStreamsOfKey limits those of one key that is no operator's, so that it cannot keep
	// all others out. Clients without a key on other machines share one such limit.
	maxStreamsOfKey = 32
)

// streams counts the open event streams.
type streams struct {
	mu    sync.Mutex
	n     int
	ofKey map[string]int // by the key's name, without those of operators
}

// begin counts a stream of a viewer. limit is 0, or the limit that forbids the stream.
func (s *streams) begin(v viewer) (limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := v.key.KeyName()
	switch {
	case s.n >= maxStreams:
		return maxStreams
	case !v.Operator && s.ofKey[name] >= maxStreamsOfKey:
		return maxStreamsOfKey
	}
	s.n++
	if !v.Operator {
		if s.ofKey == nil {
			s.ofKey = map[string]int{}
		}
		s.ofKey[name]++
	}
	return 0
}

// end ends a stream that begin has counted.
func (s *streams) end(v viewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
	if v.Operator {
		return
	}
	name := v.key.KeyName()
	if s.ofKey[name]--; s.ofKey[name] == 0 {
		delete(s.ofKey, name)
	}
}

// viewerSection is the section of the viewer itself.
type viewerSection struct {
	Key      string `json:"key"` // its name
	Operator bool   `json:"operator"`
	Keys     bool   `json:"keys"` // are configured
	Commands bool   `json:"commands"`
	Why      string `json:"why"`
}

func (v viewer) section() []byte {
	return encode(viewerSection{v.key.KeyName(), v.Operator, v.key != nil, v.commands, v.why})
}

// encode returns a value of a section or an event as JSON, with < and > escaped.
func encode(v any) []byte {
	encoded, _ := json.Marshal(v) // all of them can be encoded
	return encoded
}

// same reports whether two viewers have the same rights.
func (v viewer) same(o viewer) bool {
	return v.Viewer == o.Viewer && v.key.KeyName() == o.key.KeyName() && (v.key == nil) == (o.key == nil) && v.commands == o.commands && v.why == o.why
}

// events sends the sections, then what changes of them, and log lines if the query asks for
// them, until the client closes the connection, llmsup stops, or the viewer's rights
// change. The page then connects again.
func (h *Handler) events(w http.ResponseWriter, r *http.Request, v viewer) {
	if limit := h.open.begin(v); limit > 0 {
		writeError(w, wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: "too_many_pages",
			Message: fmt.Sprintf("%d pages are open, which is the limit; close some", limit),
		})
		return
	}
	defer h.open.end(v)
	ctx, cancel := h.untilClosed(r.Context())
	var sources sync.WaitGroup
	defer sources.Wait()
	defer cancel()

	events := make(chan []byte) // unbuffered: a page that does not read makes the sources wait, and then skip
	send := func(event []byte) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case events <- event:
			return nil
		}
	}
	lastID := r.Header.Get("Last-Event-ID")
	sources.Go(func() { h.sendSections(ctx, v, lastID, send) })
	if r.URL.Query().Get("logs") == "1" && v.commands {
		servers := r.URL.Query()["server"]
		sources.Go(func() {
			followLogs(ctx, h.o.Logs, servers, func(line control.LogLine) error {
				return send(fmt.Appendf(nil, "event: log\ndata: %s\n\n", encode(logEvent(line))))
			})
		})
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Connection", "close") // the stream ends with its connection, so that a stop need not wait for it
	header.Set("X-Accel-Buffering", "no")
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		event := []byte(": \n\n")
		select {
		case <-ctx.Done():
			return
		case event = <-events:
		case <-tick.C:
		}
		if now, ok := h.identify(r); !ok || !now.same(v) {
			return
		}
		if err := writeEvent(w, event); err != nil {
			return
		}
	}
}

// logEvent is a line of a log in an event.
type logEvent struct {
	Server string    `json:"server"` // "" = llmsup itself
	At     time.Time `json:"at"`
	Level  string    `json:"level"`
	Text   string    `json:"text"`
	Lost   uint64    `json:"lost"` // lines before this one that the page was too slow for
}

// sendSections sends the sections, and then what changes of them, until ctx ends.
func (h *Handler) sendSections(ctx context.Context, v viewer, lastID string, send func([]byte) error) {
	reader := h.o.Feed.Subscribe(v.Viewer, lastID)
	defer reader.Close()
	self := v.section()
	if id := reader.Resumed(); id != "" { // there may be no change for long
		if send(update(feed.Update{ID: id}, self)) != nil {
			return
		}
		self = nil
	}
	for {
		u, err := reader.Next(ctx)
		if err != nil || send(update(u, self)) != nil {
			return
		}
		self = nil
	}
}

// update returns an update as an event. self is the viewer's section; nil = it was sent.
func update(u feed.Update, self []byte) []byte {
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
	return append(append(event, u.Sections...), "}\n\n"...)
}

// writeEvent writes an event. A page that does not read it in time is dropped.
func writeEvent(w http.ResponseWriter, event []byte) error {
	out := http.NewResponseController(w)
	if err := out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := w.Write(event); err != nil {
		return err
	}
	return out.Flush()
}
