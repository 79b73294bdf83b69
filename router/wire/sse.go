package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Event is one event of a server-sent event stream (WHATWG HTML, 9.2.6). Its
// slices are valid until the next call of EventReader.Next.
type Event struct {
	Raw  []byte // its bytes, with the empty line that ends it
	Name []byte // the field "event"; nil = there is none
	Data []byte // the fields "data", joined by line feeds; nil = there are none
	Cut  bool   // the stream ended before the empty line
}

// MaxEvent bounds one event, in bytes: a stream is held back up to the end of an event.
const MaxEvent = 16 << 20

var errEventTooLong = fmt.Errorf("an event of the stream exceeds %d MiB", MaxEvent>>20)

// EventReader splits a stream into events, in whatever pieces it arrives.
type EventReader struct {
	src    io.Reader
	Buf    []byte
	start  int  // of the event being read
	line   int  // start of the line being read
	scan   int  // from where on to look for the end of the line
	lf     int  // there is no LF between scan and lf
	lines  int  // of the event being read
	cr     bool // the last line ended with CR alone
	err    error
	joined []byte // joined data, reused
}

// NewEventReader returns a reader of the events in src.
func NewEventReader(src io.Reader) *EventReader {
	return &EventReader{src: src, Buf: make([]byte, 0, 4<<10)}
}

// Next returns the next event. Bytes at the end of the stream without an empty line
// after them are returned as an event with Cut set. Then Next returns io.EOF, or the
// error of the source.
func (r *EventReader) Next() (Event, error) {
	for {
		if end, ok := r.findEnd(); ok {
			raw, line := r.Buf[r.start:end], r.Buf[r.start:r.line]
			single := r.lines == 1
			r.start, r.line, r.scan, r.lines, r.cr = end, end, end, 0, false
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && single { // nearly all events
				return Event{Raw: raw, Data: bytes.TrimPrefix(trimLineEnd(data), []byte{' '})}, nil
			}
			return r.parse(raw), nil
		}
		if r.err != nil {
			if r.start < len(r.Buf) && errors.Is(r.err, io.EOF) {
				raw := r.Buf[r.start:]
				r.start = len(r.Buf)
				e := r.parse(raw)
				e.Cut = true
				return e, nil
			}
			return Event{}, r.err
		}
		if len(r.Buf)-r.start > MaxEvent {
			return Event{}, errEventTooLong
		}
		r.fill()
	}
}

// Buffered returns whether Next would return an event without reading.
func (r *EventReader) Buffered() bool {
	_, ok := r.findEnd()
	return ok
}

// findEnd looks for the empty line that ends the event, and records how far it looked.
func (r *EventReader) findEnd() (end int, ok bool) {
	for {
		at, next, lf := lineEnd(r.Buf, r.scan, r.lf)
		r.scan, r.lf = at, lf
		if at == len(r.Buf) {
			return 0, false
		}
		empty := at == r.line
		switch {
		case empty && r.cr:
			// This line ends with CR alone, too: the event is not held back for a LF
			// that seldom follows. If one does, it is an empty line, which is no event.
			return at + 1, true
		case next == len(r.Buf) && r.Buf[at] == '\r' && next == at+1 && r.err == nil:
			return 0, false // a LF may follow
		case empty:
			return next, true // scan stays, so a second call finds it again
		}
		r.line, r.scan = next, next
		r.cr = r.Buf[next-1] == '\r'
		r.lines++
	}
}

// lineEnd finds the end of the line in text[from:], which is LF, CRLF or CR: the line is
// text[from:at], and the next one begins at next; at is len(text) if there is no end.
// There is no LF in text[from:noLF]; lf is the noLF of the next call, so that a text is
// searched for LF only once.
func lineEnd(text []byte, from, noLF int) (at, next, lf int) {
	lf = max(from, noLF)
	if i := bytes.IndexByte(text[lf:], '\n'); i >= 0 {
		lf += i
	} else {
		lf = len(text)
	}
	if i := bytes.IndexByte(text[from:lf], '\r'); i >= 0 {
		at, next = from+i, from+i+1
		if next == lf && lf < len(text) {
			next++
		}
		return at, next, lf
	}
	return lf, min(lf+1, len(text)), lf
}

// trimLineEnd returns a line without the LF, CRLF or CR at its end.
func trimLineEnd(line []byte) []byte {
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'})
}

func (r *EventReader) fill() {
	if r.start > 0 && (r.start == len(r.Buf) || len(r.Buf) == cap(r.Buf)) {
		n := copy(r.Buf, r.Buf[r.start:])
		r.Buf = r.Buf[:n]
		r.line -= r.start
		r.scan -= r.start
		r.lf -= r.start
		r.start = 0
	}
	if len(r.Buf) == cap(r.Buf) {
		r.Buf = append(make([]byte, 0, 2*cap(r.Buf)), r.Buf...)
	}
	n, err := r.src.Read(r.Buf[len(r.Buf):cap(r.Buf)])
	r.Buf = r.Buf[:len(r.Buf)+n]
	r.err = err
}

func (r *EventReader) parse(raw []byte) Event {
	e := Event{Raw: raw}
	joined := false
	for from, lf := 0, 0; from < len(raw); {
		var at, next int
		at, next, lf = lineEnd(raw, from, lf)
		field, value, _ := bytes.Cut(raw[from:at], []byte{':'})
		from = next
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) { // a comment's field is empty
		case "event":
			e.Name = value
		case "data":
			switch {
			case e.Data == nil:
				e.Data = value
			case !joined:
				r.joined = append(append(append(r.joined[:0], e.Data...), '\n'), value...)
				e.Data, joined = r.joined, true
			default:
				r.joined = append(append(r.joined, '\n'), value...)
				e.Data = r.joined
			}
		}
	}
	return e
}

// LikelyContent returns whether the event is probably content, usually one token: JSON
// without an event name, or a delta in a dialect that names its events.
func (e Event) LikelyContent() bool {
	return len(e.Data) > 0 && (e.Name == nil && e.Data[0] == '{' || bytes.HasSuffix(e.Name, []byte("delta")))
}
