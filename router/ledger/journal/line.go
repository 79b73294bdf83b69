package journal

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Line is a line of the journal. It is one of
//
//	{"sum":"1c291ca3","row":{"id":7,"time":1790000000000,...}}    a call that has ended
//	{"sum":"1c291ca3","begin":{"id":7,"time":1790000000000,...}}  a paid attempt that begins
//	{"sum":"1c291ca3","end":7}                                    a paid attempt that cost nothing
//
// where sum is the CRC-32C of the bytes of the value after it, in 8 hex digits. It
// detects a line that was cut or overwritten. Amounts are in USD.
type Line struct {
	Kind  Kind
	ID    int64
	Entry *Entry // of a row or a begin line
}

// Kind is what a line records.
type Kind string

// The kinds.
const (
	RowLine   Kind = "row"
	BeginLine Kind = "begin"
	EndLine   Kind = "end"
)

// maxLine bounds a line, in bytes. A line whose texts are all as long as possible, with
// every byte escaped, is shorter.
const maxLine = 16 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Line returns the line of an entry.
func (e *Entry) Line(kind Kind) Line { return Line{kind, e.ID, e} }

// AppendTo appends the line's text, with its line feed.
func (l Line) AppendTo(text []byte) []byte {
	const sumAt = len(`{"sum":"`)
	from := len(text)
	text = append(text, `{"sum":"00000000","`...)
	text = append(append(text, l.Kind...), `":`...)
	value := len(text)
	if l.Kind == EndLine {
		text = strconv.AppendInt(text, l.ID, 10)
	} else {
		text = l.Entry.appendJSON(text)
	}
	sum := crc32.Checksum(text[value:], castagnoli)
	for i := range 8 {
		text[from+sumAt+7-i] = "0123456789abcdef"[sum>>(4*i)&15]
	}
	return append(text, "}\n"...)
}

// parseLine reads a line without its line feed. ok is false if the line is damaged.
func parseLine(raw []byte) (l Line, ok bool) {
	var members struct {
		Sum   string
		Row   json.RawMessage
		Begin json.RawMessage
		End   json.RawMessage
	}
	if json.Unmarshal(raw, &members) != nil {
		return Line{}, false
	}
	isWhole := func(value json.RawMessage) bool {
		return len(value) > 0 && members.Sum == fmt.Sprintf("%08x", crc32.Checksum(value, castagnoli))
	}
	for kind, value := range map[Kind]json.RawMessage{RowLine: members.Row, BeginLine: members.Begin} {
		e := &Entry{}
		if isWhole(value) && json.Unmarshal(value, e) == nil {
			e.normalize()
			return Line{kind, e.ID, e}, true
		}
	}
	var id int64
	ok = isWhole(members.End) && json.Unmarshal(members.End, &id) == nil
	return Line{Kind: EndLine, ID: id}, ok
}
