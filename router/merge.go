package router

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// errUnmergeable is a stream whose events do not add up to one answer without
// guessing.
var errUnmergeable = errors.New("sent a stream that cannot be aggregated")

// merged is a JSON value that the deltas of a stream add to. Texts stay escaped as
// they came: half a surrogate pair has its other half in the next event.
type merged struct {
	raw    string          // a value that does not grow, as JSON; "" = not seen yet
	text   strings.Builder // the inside of a string that grows
	kind   byte            // of one that grows: '"', '{' or '['
	keys   []string        // of an object, with their quotes, in the order in which they came
	fields map[string]*merged
	list   []*merged
}

// growing are the texts that deltas add to. Every other text comes whole.
var growing = map[string]bool{
	"content": true, "text": true, "reasoning": true, "reasoning_content": true, "thinking": true, "refusal": true,
	"arguments": true, "summary": true,
}

// null says that a field may still get a value.
func (m *merged) null() bool { return m.kind == 0 && (m.raw == "" || m.raw == "null") }

// add takes the value of a field, as the next event has it.
func (m *merged) add(name string, v gjson.Result) error {
	same := func(kind byte) bool {
		fits := m.kind == kind || m.null()
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
		return m.addFields(v)
	case v.IsArray():
		if !same('[') {
			return mismatch(name)
		}
		return m.addElements(name, v)
	case m.null() || m.raw == `""`:
		m.raw = strings.Clone(v.Raw) // not the whole event with it
	case m.kind != 0 || m.raw != v.Raw && v.Raw != `""`: // some repeat what they have said
		return mismatch(name)
	}
	return nil
}

// mismatch never names the value: it may be the answer.
func mismatch(name string) error {
	return fmt.Errorf("%w: it changes %s", errUnmergeable, shorten(quote(name)))
}

func (m *merged) addFields(object gjson.Result) (err error) {
	object.ForEach(func(key, value gjson.Result) bool {
		err = m.field(key).add(key.Str, value)
		return err == nil
	})
	return err
}

// field returns the field of a key, which it makes if need be.
func (m *merged) field(key gjson.Result) *merged {
	f := m.fields[key.Str]
	if f == nil {
		f = &merged{}
		if m.fields == nil {
			m.fields = map[string]*merged{}
		}
		m.fields[key.Str] = f
		m.keys = append(m.keys, strings.Clone(key.Raw))
	}
	return f
}

// maxElements bounds a list whose elements have an index.
const maxElements = 4096

// addElements takes the elements of a list: those with an index are added to the
// element of that index, the others come whole.
func (m *merged) addElements(name string, list gjson.Result) (err error) {
	list.ForEach(func(_, v gjson.Result) bool {
		index := v.Get("index")
		switch {
		case !v.IsObject() || index.Type != gjson.Number:
			m.list = append(m.list, &merged{raw: strings.Clone(v.Raw)})
		case index.Num < 0 || index.Num > float64(len(m.list)) || index.Num >= maxElements || index.Num != float64(int(index.Num)):
			err = fmt.Errorf("%w: %s has no element %s", errUnmergeable, shorten(quote(name)), shorten(index.Raw))
		default:
			if int(index.Num) == len(m.list) {
				m.list = append(m.list, &merged{kind: '{'})
			}
			if at := m.list[int(index.Num)]; at.kind == '{' {
				err = at.addFields(v)
			} else {
				err = mismatch(name)
			}
		}
		return err == nil
	})
	return err
}

// append writes the value, without the fields of a name, and the same of those in it.
func (m *merged) append(out []byte, without string) []byte {
	switch m.kind {
	case '"':
		return append(append(append(out, '"'), m.text.String()...), '"')
	case '{':
		out = append(out, '{')
		first := true
		for _, key := range m.keys {
			name := unquote(key)
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
		return append(out, ']')
	}
	return append(out, m.raw...)
}
