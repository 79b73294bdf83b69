package ledger

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// line is a line of a journal. It is one of
//
//	{"sum":"1c291ca3","row":{"id":7,"time":1790000000000,...}}    a call that has ended
//	{"sum":"1c291ca3","begin":{"id":7,"time":1790000000000,...}}  a paid attempt that begins
//	{"sum":"1c291ca3","end":7}                                    a paid attempt for which nothing was paid
//
// where sum is the CRC-32C of the bytes of the value after it, in 8 hex digits. It
// detects a line that was cut or overwritten. Amounts are in USD.
type line struct {
	kind lineKind
	entry
}

type lineKind string

const (
	rowLine   lineKind = "row"
	beginLine lineKind = "begin"
	endLine   lineKind = "end"
)

// maxLine bounds a line, in bytes. One with all its texts at their longest, and every
// byte escaped, is shorter.
const maxLine = 16 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (e *entry) line(kind lineKind) []byte { return newLine(kind, e) }

func newEndLine(id int64) []byte { return newLine(endLine, id) }

func newLine(kind lineKind, value any) []byte {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("ledger: a row cannot be encoded: %v", err)) // texts and figures always can
	}
	return fmt.Appendf(make([]byte, 0, len(raw)+40), `{"sum":"%08x",%q:%s}`+"\n", crc32.Checksum(raw, castagnoli), kind, raw)
}

// parseLine reads a line without its line feed. ok is false for one that is not
// whole.
func parseLine(raw []byte) (l line, ok bool) {
	var members struct {
		Sum   string
		Row   json.RawMessage
		Begin json.RawMessage
		End   json.RawMessage
	}
	if json.Unmarshal(raw, &members) != nil {
		return line{}, false
	}
	for kind, value := range map[lineKind]json.RawMessage{rowLine: members.Row, beginLine: members.Begin, endLine: members.End} {
		var to any = &l.entry
		if kind == endLine {
			to = &l.ID
		}
		if len(value) > 0 && members.Sum == fmt.Sprintf("%08x", crc32.Checksum(value, castagnoli)) && json.Unmarshal(value, to) == nil {
			l.kind = kind
			l.normalize()
			return l, true
		}
	}
	return line{}, false
}
