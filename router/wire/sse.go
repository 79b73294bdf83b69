package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Event is one event of a server-sent event stream (WHATWG HTML, 9.2.6). Its
// slices are valid until the next call of EventReader.next.
type Event struct {
	Raw  []byte // as it came, with the empty line that ends it
	Name []byte // the field "event"; nil where there is none
	Data []byte // the fields "data", joined by line feeds; nil where there are none
	Cut  bool   // the stream ended before the empty line
}

// MaxEvent bounds one event, in bytes: what is held back of a stream at a time.
const MaxEvent = 16 << 20

var errEventTooLong = errors.New("an event of the stream is over " + fmt.Sprint(MaxEvent>>20) + " MiB")

// EventReader cuts a stream into events, whatever the pieces in which it comes.
type EventReader struct {
	src   io.Reader
	Buf   []byte
	start int  // of the event being read
	line  int  // start of the line being read
	scan  int  // where to look for the next line's end
	lf    int  // up to where there is no LF from scan on
	lines int  // of the event being read, so far
	cr    bool // the last of them ended with a CR alone
	err   error
	multi []byte // joined data, reused
}

func NewEventReader(src io.Reader) *EventReader {
	return &EventReader{src: src, Buf: make([]byte, 0, 4<<10)}
}

// Next returns the next event. What stands before the stream's end without an
// empty line after it is returned as an event that is cut; then io.EOF comes,
// or what the source failed with.
func (r *EventReader) Next() (Event, error) {
	for {
		if end, ok := r.findEnd(); ok {
			raw, line := r.Buf[r.start:end], r.Buf[r.start:r.line]
			single := r.lines == 1
			r.start, r.line, r.scan, r.lines, r.cr = end, end, end, 0, false
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && single { // as nearly all are
				return Event{Raw: raw, Data: bytes.TrimPrefix(withoutEnd(data), []byte{' '})}, nil
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

// Buffered says whether next would return an event without reading.
func (r *EventReader) Buffered() bool {
	_, ok := r.findEnd()
	return ok
}

// findEnd looks for the empty line that ends the event. It remembers how far it
// has looked.
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
			// So will this line: an event is not held back for a LF that seldom
			// comes. One that does is an empty line, and so no event to a client.
			return at + 1, true
		case next == len(r.Buf) && r.Buf[at] == '\r' && next == at+1 && r.err == nil:
			return 0, false // a LF may follow
		case empty:
			return next, true // scan stays: asked again, it finds this again
		}
		r.line, r.scan = next, next
		r.cr = r.Buf[next-1] == '\r'
		r.lines++
	}
}

// lineEnd finds the end of the line in text[from:], which is LF, CRLF or CR: the line
// is text[:at], and the next one begins at next; at is len(text) where there is no end.
// noLF is up to where there is known to be no LF; the returned one is for the next call.
// Nearly all texts have LF alone, and texts without one are looked through only once.
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

// withoutEnd is a line without the LF, CRLF or CR that it ends with.
func withoutEnd(line []byte) []byte {
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
				r.multi = append(append(append(r.multi[:0], e.Data...), '\n'), value...)
				e.Data, joined = r.multi, true
			default:
				r.multi = append(append(r.multi, '\n'), value...)
				e.Data = r.multi
			}
		}
	}
	return e
}

// LikelyContent says whether the event is likely to be a part of an answer, a token as a
// rule: in dialects that name their events, a delta.
func (e Event) LikelyContent() bool {
	return len(e.Data) > 0 && (e.Name == nil && e.Data[0] == '{' || bytes.HasSuffix(e.Name, []byte("delta")))
}
