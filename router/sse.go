package router

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// event is one event of a server-sent event stream (WHATWG HTML, 9.2.6). Its
// slices are valid until the next call of eventReader.next.
type event struct {
	raw  []byte // as it came, with the empty line that ends it
	name []byte // the field "event"; nil where there is none
	data []byte // the fields "data", joined by line feeds; nil where there are none
	cut  bool   // the stream ended before the empty line
}

// maxEvent bounds one event, in bytes: what is held back of a stream at a time.
const maxEvent = 16 << 20

var errEventTooLong = errors.New("an event of the stream is over " + fmt.Sprint(maxEvent>>20) + " MiB")

// eventReader cuts a stream into events, whatever the pieces in which it comes.
type eventReader struct {
	src   io.Reader
	buf   []byte
	start int // of the event being read
	line  int // start of the line being read
	scan  int // where to look for the next line's end
	lines int // of the event being read, so far
	err   error
	multi []byte // joined data, reused
}

func newEventReader(src io.Reader) *eventReader {
	return &eventReader{src: src, buf: make([]byte, 0, 4<<10)}
}

// next returns the next event. What stands before the stream's end without an
// empty line after it is returned as an event that is cut; then io.EOF comes,
// or what the source failed with.
func (r *eventReader) next() (event, error) {
	for {
		if end, ok := r.findEnd(); ok {
			raw, line := r.buf[r.start:end], r.buf[r.start:r.line]
			single := r.lines == 1
			r.start, r.line, r.scan, r.lines = end, end, end, 0
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && single { // as nearly all are
				return event{raw: raw, data: bytes.TrimPrefix(withoutEnd(data), []byte{' '})}, nil
			}
			return r.parse(raw), nil
		}
		if r.err != nil {
			if r.start < len(r.buf) && errors.Is(r.err, io.EOF) {
				raw := r.buf[r.start:]
				r.start = len(r.buf)
				e := r.parse(raw)
				e.cut = true
				return e, nil
			}
			return event{}, r.err
		}
		if len(r.buf)-r.start > maxEvent {
			return event{}, errEventTooLong
		}
		r.fill()
	}
}

// buffered says whether next would return an event without reading.
func (r *eventReader) buffered() bool {
	_, ok := r.findEnd()
	return ok
}

// findEnd looks for the empty line that ends the event. It remembers how far it
// has looked.
func (r *eventReader) findEnd() (end int, ok bool) {
	for {
		i := bytes.IndexByte(r.buf[r.scan:], '\n')
		if i < 0 {
			r.scan = len(r.buf)
			return 0, false
		}
		next := r.scan + i + 1
		length := next - 1 - r.line
		if length == 0 || length == 1 && r.buf[r.line] == '\r' {
			return next, true // scan stays: asked again, it finds this again
		}
		r.line, r.scan = next, next
		r.lines++
	}
}

// withoutEnd is a line without the LF or CRLF that it ends with.
func withoutEnd(line []byte) []byte {
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'})
}

func (r *eventReader) fill() {
	if r.start > 0 && (r.start == len(r.buf) || len(r.buf) == cap(r.buf)) {
		n := copy(r.buf, r.buf[r.start:])
		r.buf = r.buf[:n]
		r.line -= r.start
		r.scan -= r.start
		r.start = 0
	}
	if len(r.buf) == cap(r.buf) {
		r.buf = append(make([]byte, 0, 2*cap(r.buf)), r.buf...)
	}
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	r.err = err
}

func (r *eventReader) parse(raw []byte) event {
	e := event{raw: raw}
	joined := false
	for rest := raw; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		field, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte{'\r'}), []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) { // a comment's field is empty
		case "event":
			e.name = value
		case "data":
			switch {
			case e.data == nil:
				e.data = value
			case !joined:
				r.multi = append(append(append(r.multi[:0], e.data...), '\n'), value...)
				e.data, joined = r.multi, true
			default:
				r.multi = append(append(r.multi, '\n'), value...)
				e.data = r.multi
			}
		}
	}
	return e
}

// carries says whether the event is likely to be a part of an answer, a token as a
// rule: in dialects that name their events, a delta.
func (e event) carries() bool {
	return len(e.data) > 0 && (e.name == nil && e.data[0] == '{' || bytes.HasSuffix(e.name, []byte("delta")))
}
