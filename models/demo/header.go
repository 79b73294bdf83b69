package demo

import (
	"encoding/binary"
	"math"
)

// The numbers of GGUF's value types (enum gguf_type) and of its one tensor type
// that is used here (enum ggml_type).
const (
	typeUint32  uint32 = 4
	typeInt32   uint32 = 5
	typeFloat32 uint32 = 6
	typeBool    uint32 = 7
	typeString  uint32 = 8
	typeArray   uint32 = 9

	tensorF32 uint32 = 0

	alignment = 32 // bytes, GGUF's default
)

// header returns everything before the tensors' data, padding included.
func (s Shape) header(tensors []tensor) []byte {
	var m metadata
	m.text("general.architecture", "llama")
	m.text("general.type", "model")
	m.text("general.name", "llmsup demo (counts)")
	m.number("general.file_type", 0) // all F32

	m.number("llama.block_count", s.Blocks)
	m.number("llama.context_length", s.Context)
	m.number("llama.embedding_length", s.Width)
	m.number("llama.feed_forward_length", s.FFN)
	m.number("llama.attention.head_count", s.Heads)
	m.number("llama.attention.head_count_kv", s.Heads)
	m.number("llama.rope.dimension_count", s.Width/s.Heads)
	m.float("llama.attention.layer_norm_rms_epsilon", 1e-5)

	tokens := s.tokens()
	m.number("llama.vocab_size", len(tokens))
	m.text("tokenizer.ggml.model", "llama")
	m.tokens(tokens)
	m.number("tokenizer.ggml.unknown_token_id", unknownToken)
	m.number("tokenizer.ggml.bos_token_id", startToken)
	m.number("tokenizer.ggml.eos_token_id", endToken)
	m.flag("tokenizer.ggml.add_bos_token", false)
	m.flag("tokenizer.ggml.add_eos_token", false)
	// With the prefix, a continued " 57" would become "  57" and other tokens.
	m.flag("tokenizer.ggml.add_space_prefix", false)
	m.text("tokenizer.chat_template", chatTemplate)
	return assemble(m, tensors)
}

// assemble returns a header with these entries and tensors.
func assemble(m metadata, tensors []tensor) []byte {
	b := []byte("GGUF")
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, m.count)
	b = append(b, m.entries...)
	var offset uint64
	for _, t := range tensors {
		b = appendText(b, t.name)
		dims := t.dims()
		b = binary.LittleEndian.AppendUint32(b, uint32(len(dims)))
		for _, n := range dims {
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		}
		b = binary.LittleEndian.AppendUint32(b, tensorF32)
		b = binary.LittleEndian.AppendUint64(b, offset)
		offset += 4 * uint64(t.rows) * uint64(t.width)
	}
	padding := -len(b) & (alignment - 1)
	return append(b, make([]byte, padding)...)
}

// metadata collects a header's entries.
type metadata struct {
	entries []byte
	count   uint64
}

func (m *metadata) start(key string, kind uint32) {
	m.count++
	m.entries = appendText(m.entries, key)
	m.entries = binary.LittleEndian.AppendUint32(m.entries, kind)
}

func (m *metadata) text(key, value string) {
	m.start(key, typeString)
	m.entries = appendText(m.entries, value)
}

func (m *metadata) number(key string, value int) {
	m.start(key, typeUint32)
	m.entries = binary.LittleEndian.AppendUint32(m.entries, uint32(value))
}

func (m *metadata) float(key string, value float32) {
	m.start(key, typeFloat32)
	m.entries = binary.LittleEndian.AppendUint32(m.entries, math.Float32bits(value))
}

func (m *metadata) flag(key string, value bool) {
	m.start(key, typeBool)
	var b byte
	if value {
		b = 1
	}
	m.entries = append(m.entries, b)
}

func (m *metadata) array(key string, kind uint32, n int) {
	m.start(key, typeArray)
	m.entries = binary.LittleEndian.AppendUint32(m.entries, kind)
	m.entries = binary.LittleEndian.AppendUint64(m.entries, uint64(n))
}

// tokens writes the vocabulary. All scores are equal: no text can be split into these tokens
// in two ways.
func (m *metadata) tokens(tokens []token) {
	m.array("tokenizer.ggml.tokens", typeString, len(tokens))
	for _, t := range tokens {
		m.entries = appendText(m.entries, t.text)
	}
	m.array("tokenizer.ggml.scores", typeFloat32, len(tokens))
	m.entries = append(m.entries, make([]byte, 4*len(tokens))...)
	m.array("tokenizer.ggml.token_type", typeInt32, len(tokens))
	for _, t := range tokens {
		m.entries = binary.LittleEndian.AppendUint32(m.entries, t.kind)
	}
}

func appendText(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}
