package hubtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// Split splits a GGUF file, version 3, into parts as llama-gguf-split does, each with some of
// its tensors. name is that of the parts without their number and .gguf.
func Split(t testing.TB, model []byte, name string, parts int) (files []File) {
	t.Helper()
	g := readGGUF(model)
	if parts > len(g.tensors) {
		t.Fatalf("%s has only %d tensors", name, len(g.tensors))
	}
	for i := range parts {
		from, to := i*len(g.tensors)/parts, (i+1)*len(g.tensors)/parts
		content := g.part(i, parts, g.tensors[from:to])
		files = append(files, File{Path: fmt.Sprintf("%s-%05d-of-%05d.gguf", name, i+1, parts), Content: content})
	}
	return files
}

// ggufFile is a GGUF file in pieces.
type ggufFile struct {
	entries int
	values  []byte // of all metadata entries
	tensors []ggufTensor
}

type ggufTensor struct {
	about []byte // name, shape and type
	at    uint64
	data  []byte
}

const (
	alignment  = 32
	typeString = 8
	typeArray  = 9
)

// sizes are those of the values of each type in bytes.
var sizes = map[uint32]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// cursor reads a file that is known to be right.
type cursor struct {
	data []byte
	pos  int
}

func (c *cursor) u32() uint32 { c.pos += 4; return binary.LittleEndian.Uint32(c.data[c.pos-4:]) }
func (c *cursor) u64() uint64 { c.pos += 8; return binary.LittleEndian.Uint64(c.data[c.pos-8:]) }

func (c *cursor) skipValue(kind uint32) {
	switch kind {
	case typeString:
		n := c.u64()
		c.pos += int(n)
	case typeArray:
		element, n := c.u32(), c.u64()
		for range n {
			c.skipValue(element)
		}
	default:
		c.pos += sizes[kind]
	}
}

func readGGUF(model []byte) (g ggufFile) {
	c := &cursor{data: model, pos: 8}
	tensors := c.u64()
	g.entries = int(c.u64())
	start := c.pos
	for range g.entries {
		c.skipValue(typeString)
		kind := c.u32()
		c.skipValue(kind)
	}
	g.values = model[start:c.pos]
	for range tensors {
		start := c.pos
		c.skipValue(typeString)
		dims := c.u32()
		c.pos += int(dims)*8 + 4
		g.tensors = append(g.tensors, ggufTensor{about: model[start:c.pos], at: c.u64()})
	}
	data := model[(c.pos+alignment-1)/alignment*alignment:]
	for i := range g.tensors {
		end := uint64(len(data))
		if i+1 < len(g.tensors) {
			end = g.tensors[i+1].at
		}
		g.tensors[i].data = data[g.tensors[i].at:end]
	}
	return g
}

// part returns a part of a file. The first has the metadata.
func (g ggufFile) part(no, count int, tensors []ggufTensor) []byte {
	le := binary.LittleEndian
	entries, values := 3, []byte(nil)
	if no == 0 {
		entries, values = entries+g.entries, g.values
	}
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(entries))
	b = append(b, values...)
	entry := func(key string, kind uint32) {
		b = le.AppendUint64(b, uint64(len(key)))
		b = le.AppendUint32(append(b, key...), kind)
	}
	entry("split.no", 2)
	b = le.AppendUint16(b, uint16(no))
	entry("split.count", 2)
	b = le.AppendUint16(b, uint16(count))
	entry("split.tensors.count", 5)
	b = le.AppendUint32(b, uint32(len(g.tensors)))
	var data bytes.Buffer
	for _, t := range tensors {
		data.Write(make([]byte, (alignment-data.Len()%alignment)%alignment))
		b = le.AppendUint64(append(b, t.about...), uint64(data.Len()))
		data.Write(t.data)
	}
	b = append(b, make([]byte, (alignment-len(b)%alignment)%alignment)...)
	return append(b, data.Bytes()...)
}
