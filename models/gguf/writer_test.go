package gguf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"testing"
)

// file is a GGUF file to be written for a test.
type file struct {
	version uint32 // 3 if 0
	entries []entry
	tensors []tensor
	align   uint64 // of the data, 32 if 0; the test adds the entry general.alignment itself
	cut     int    // bytes to leave off at the end
}

// entry is a metadata entry. Its value is a Go number, a string, or a slice of either; raw
// bytes are written unchanged and begin with the value's type.
type entry struct {
	key   string
	value any
}

type raw []byte

// tensor is a description and its size in the data. Its offset is its place in the data plus
// shift.
type tensor struct {
	name  string
	kind  TensorType
	dims  []uint64
	size  uint64
	shift uint64
}

// llama is a small but complete model: 2 layers, 4 heads that share 2 KV heads.
func llama(more ...entry) file {
	return file{
		entries: append([]entry{
			{"general.architecture", "llama"},
			{"general.name", "A small one"},
			{"general.size_label", "1K"},
			{"general.file_type", uint32(15)},
			{"tokenizer.ggml.tokens", []string{"<unk>", "a", "bc"}},
			{"tokenizer.ggml.scores", []float32{0, 1, 2}},
			{"llama.block_count", uint32(2)},
			{"llama.embedding_length", uint32(64)},
			{"llama.context_length", uint32(8192)},
			{"llama.attention.head_count", uint32(4)},
			{"llama.attention.head_count_kv", uint32(2)},
		}, more...),
		tensors: []tensor{
			{name: "token_embd.weight", kind: 0, dims: []uint64{64, 3}, size: 768},
			{name: "blk.0.attn_q.weight", kind: 8, dims: []uint64{64, 64}, size: 4352},
			{name: "blk.1.attn_norm.weight", kind: 0, dims: []uint64{3}, size: 12},
			{name: "blk.1.ffn_up_exps.weight", kind: 1, dims: []uint64{64, 2, 2}, size: 512},
			{name: "output.weight", kind: 0, dims: []uint64{64, 3}, size: 768},
		},
	}
}

// without returns f without the entry of a key.
func (f file) without(key string) file {
	var entries []entry
	for _, e := range f.entries {
		if e.key != key {
			entries = append(entries, e)
		}
	}
	f.entries = entries
	return f
}

// with returns f with an entry replaced.
func (f file) with(key string, value any) file {
	f = f.without(key)
	f.entries = append(f.entries, entry{key, value})
	return f
}

func (f file) withTensors(tensors ...tensor) file {
	f.tensors = tensors
	return f
}

func (f file) bytes(t testing.TB) []byte {
	t.Helper()
	var b builder
	b.WriteString("GGUF")
	b.put(cmp.Or(f.version, 3))
	b.put(uint64(len(f.tensors)), uint64(len(f.entries)))
	for _, e := range f.entries {
		b.text(e.key)
		b.value(t, e.value)
	}
	align := cmp.Or(f.align, 32)
	var end uint64
	for _, x := range f.tensors {
		end = pad(end, align)
		b.text(x.name)
		b.put(uint32(len(x.dims)), x.dims, uint32(x.kind), end+x.shift)
		end += x.size
	}
	if len(f.tensors) > 0 {
		b.Write(make([]byte, pad(uint64(b.Len()), align)-uint64(b.Len())+end))
	}
	return b.Bytes()[:b.Len()-f.cut]
}

type builder struct{ bytes.Buffer }

func (b *builder) put(values ...any) {
	for _, v := range values {
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
}

func (b *builder) text(s string) {
	b.put(uint64(len(s)))
	b.WriteString(s)
}

func (b *builder) value(t testing.TB, v any) {
	t.Helper()
	array := func(kind valueType, n int) { b.put(typeArray, kind, uint64(n)) }
	switch v := v.(type) {
	case raw:
		b.Write(v)
	case string:
		b.put(typeString)
		b.text(v)
	case []string:
		array(typeString, len(v))
		for _, s := range v {
			b.text(s)
		}
	case bool:
		b.put(typeBool, v)
	case uint8:
		b.put(typeUint8, v)
	case uint16:
		b.put(typeUint16, v)
	case uint32:
		b.put(typeUint32, v)
	case uint64:
		b.put(typeUint64, v)
	case int32:
		b.put(typeInt32, v)
	case float32:
		b.put(typeFloat32, v)
	case []uint32:
		array(typeUint32, len(v))
		b.put(v)
	case []int32:
		array(typeInt32, len(v))
		b.put(v)
	case []float32:
		array(typeFloat32, len(v))
		b.put(v)
	case []bool:
		array(typeBool, len(v))
		b.put(v)
	default:
		t.Fatalf("the test writes no %T", v)
	}
}

// rawValue is an invalid value.
func rawValue(values ...any) raw {
	var b builder
	b.put(values...)
	return b.Bytes()
}
