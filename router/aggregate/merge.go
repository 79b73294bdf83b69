package aggregate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// ErrUnmergeable is a stream whose events cannot be merged into one answer without
// guessing.
var ErrUnmergeable = errors.New("sent a stream that cannot be aggregated")

// merged is a JSON value that is built from the deltas of a stream. Texts stay escaped as
// they were received: a surrogate pair may be split between two events.
type merged struct {
	raw    string          // a value that deltas do not extend, as JSON; "" = not received yet
	text   strings.Builder // the inside of a string, or of a list whose elements are not extended
	kind   byte            // of a value that deltas extend: '"', '{' or '['
	keys   []string        // of an object, with their quotes, in order of arrival
	fields map[string]*merged
	list   []*merged // the elements of a list whose elements are extended
}

// mergedBytes is the size that a value counts against MaxBytes, besides its text. A tree of
// values has many times the size of its JSON.
const mergedBytes = 128

// growing are the texts that deltas extend. Every other text comes whole.
var growing = map[string]bool{
	"content": true, "text": true, "reasoning": true, "reasoning_content": true, "thinking": true, "refusal": true,
	"arguments": true, "summary": true,
}

// isUnset reports whether a field may still get a value.
func (m *merged) isUnset() bool { return m.kind == 0 && (m.raw == "" || m.raw == "null") }

// add merges the value of a field in the next event. size is the memory use of the
// aggregator, in bytes.
func (m *merged) add(name string, v gjson.Result, size *int) error {
	same := func(kind byte) bool {
		fits := m.kind == kind || m.isUnset()
		m.kind = kind
		return fits
	}
	switch {
	case v.Type == gjson.Null:
		if m.kind == 0 && m.raw == "" {
			m.raw = "null"
		}
	case v.Type == gjson.String && growing[name]:
		if !same('"') {
			return mismatch(name)
		}
		m.text.WriteString(v.Raw[1 : len(v.Raw)-1])
	case v.IsObject():
		if !same('{') {
			return mismatch(name)
		}
		return m.addFields(v, size)
	case v.IsArray():
		if !same('[') {
			return mismatch(name)
		}
		return m.addElements(name, v, size)
	case m.isUnset() || m.raw == `""`:
		m.raw = strings.Clone(v.Raw) // without a reference to the whole event
	case m.kind != 0 || m.raw != v.Raw && v.Raw != `""`: // some upstreams repeat a value
		return mismatch(name)
	}
	return nil
}

// mismatch never contains the value: it may be a part of the answer.
func mismatch(name string) error {
	return fmt.Errorf("%w: two values of %s", ErrUnmergeable, wire.Shorten(wire.Quote(name)))
}

func (m *merged) addFields(object gjson.Result, size *int) (err error) {
	object.ForEach(func(key, value gjson.Result) bool {
		if err = m.field(key, size).add(key.Str, value, size); *size > MaxBytes {
			err = ErrTooLong
		}
		return err == nil
	})
	return err
}

// field returns the field of a key. It creates the field if there is none.
func (m *merged) field(key gjson.Result, size *int) *merged {
	f := m.fields[key.Str]
	if f == nil {
		*size += mergedBytes
		f = &merged{}
		if m.fields == nil {
			m.fields = map[string]*merged{}
		}
		m.fields[key.Str] = f
		m.keys = append(m.keys, strings.Clone(key.Raw))
	}
	return f
}

// indexed are the lists whose elements deltas extend: each element has an index. The
// elements of other lists come whole.
var indexed = map[string]bool{"tool_calls": true, "reasoning_details": true, "images": true}

// maxElements bounds such a list.
const maxElements = 4096

// addElements adds the elements of a list.
func (m *merged) addElements(name string, list gjson.Result, size *int) (err error) {
	list.ForEach(func(_, v gjson.Result) bool {
		if !indexed[name] {
			m.appendElement(v)
			return true
		}
		var at *merged
		if at, err = m.element(name, v, size); err == nil {
			err = at.addFields(v, size)
		}
		return err == nil
	})
	return err
}

// appendElement adds an element that came whole.
func (m *merged) appendElement(v gjson.Result) {
	if m.text.Len() > 0 {
		m.text.WriteByte(',')
	}
	m.text.WriteString(v.Raw)
}

// element returns the element that a part of a list extends: the one with its index, which
// begins at 0 or, with some upstreams, at 1. A tool call without an index extends the
// previous call, unless it has its own ID. Other elements without an index come whole.
func (m *merged) element(name string, v gjson.Result, size *int) (*merged, error) {
	index, last := v.Get("index"), &merged{}
	if len(m.list) > 0 {
		last = m.list[len(m.list)-1]
	}
	switch {
	case !v.IsObject():
		return nil, mismatch(name)
	case index.Type == gjson.Number:
		for _, e := range slices.Backward(m.list) {
			if e.scalar("index") == index.Raw {
				return e, nil
			}
		}
		if next, err := strconv.Atoi(last.scalar("index")); len(m.list) == 0 && index.Raw != "0" && index.Raw != "1" ||
			len(m.list) > 0 && (err != nil || index.Raw != strconv.Itoa(next+1)) {
			return nil, fmt.Errorf("%w: %s has no element %s", ErrUnmergeable, wire.Shorten(wire.Quote(name)), wire.Shorten(index.Raw))
		}
	case name == "tool_calls" && len(m.list) > 0:
		id := v.Get("id")
		if !wire.HasContent(id) && wire.HasContent(v.Get("function.name")) {
			return nil, fmt.Errorf("%w: a tool call has neither an index nor an ID", ErrUnmergeable)
		}
		if !wire.HasContent(id) || id.Raw == last.scalar("id") {
			return last, nil
		}
	}
	if len(m.list) >= maxElements {
		return nil, fmt.Errorf("%w: %s has more than %d elements", ErrUnmergeable, wire.Shorten(wire.Quote(name)), maxElements)
	}
	*size += mergedBytes
	m.list = append(m.list, &merged{kind: '{'})
	return m.list[len(m.list)-1], nil
}

// scalar returns a field that deltas do not extend, as JSON; "" = there is none.
func (m *merged) scalar(name string) string {
	if f := m.fields[name]; f != nil {
		return f.raw
	}
	return ""
}

// append appends the value as JSON, without the fields of a name at any depth.
func (m *merged) append(out []byte, without string) []byte {
	switch m.kind {
	case '"':
		return append(append(append(out, '"'), m.text.String()...), '"')
	case '{':
		out = append(out, '{')
		first := true
		for _, key := range m.keys {
			name := wire.Unquote(key)
			if name == without {
				continue
			}
			if !first {
				out = append(out, ',')
			}
			first = false
			out = m.fields[name].append(append(append(out, key...), ':'), without)
		}
		return append(out, '}')
	case '[':
		out = append(out, '[')
		for i, e := range m.list {
			if i > 0 {
				out = append(out, ',')
			}
			out = e.append(out, without)
		}
		return append(append(out, m.text.String()...), ']')
	}
	return append(out, m.raw...)
}
