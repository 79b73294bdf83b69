package fit

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// quantisation is how a test's model is stored: llama.cpp's number of the type, and the bytes of 32
// elements.
type quantisation struct {
	kind, fileType uint32
	bytes          uint64
}

var (
	f16  = quantisation{1, 1, 64}
	q8_0 = quantisation{8, 7, 34}
	q4_0 = quantisation{2, 2, 18}
)

const (
	testLayers = 4
	testWidth  = 1024
	testTokens = 50_000
)

// model returns a GGUF file: a llama of 4 layers, with a tokenizer of a megabyte and weights that
// are all zero.
func model(arch string, q quantisation) []byte {
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			if text, ok := v.(string); ok {
				_ = binary.Write(&b, binary.LittleEndian, uint64(len(text)))
				b.WriteString(text)
			} else {
				_ = binary.Write(&b, binary.LittleEndian, v)
			}
		}
	}
	var tensors []func(at uint64)
	add := func(name string, rows uint64) {
		tensors = append(tensors, func(at uint64) {
			put(name, uint32(2), uint64(testWidth), rows, q.kind, at)
		})
	}
	const embeddings = 1000 // fewer than tokens: nothing computes with them
	add("token_embd.weight", embeddings)
	add("output.weight", embeddings)
	rows := []uint64{embeddings, embeddings}
	for i := range testLayers {
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"} {
			add(fmt.Sprintf("blk.%d.%s.weight", i, name), testWidth)
			rows = append(rows, testWidth)
		}
	}
	b.WriteString("GGUF")
	put(uint32(3), uint64(len(tensors)), uint64(8))
	put("general.architecture", uint32(8), arch, "general.name", uint32(8), "A model")
	put(arch+".block_count", uint32(4), uint32(testLayers), arch+".embedding_length", uint32(4), uint32(testWidth))
	put(arch+".context_length", uint32(4), uint32(32768), arch+".attention.head_count", uint32(4), uint32(8))
	put("tokenizer.ggml.tokens", uint32(9), uint32(8), uint64(testTokens))
	for i := range testTokens {
		fmt.Fprintf(&b, "\x08\x00\x00\x00\x00\x00\x00\x00t%07d", i)
	}
	put("general.file_type", uint32(4), q.fileType)
	at := uint64(0)
	for i, tensor := range tensors {
		tensor(at)
		at += rows[i] * testWidth / 32 * q.bytes
	}
	b.Write(make([]byte, -b.Len()&31))
	b.Write(make([]byte, at))
	return b.Bytes()
}
