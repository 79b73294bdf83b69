package vram

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// ggufFile collects what a GGUF file begins with (ggml/include/gguf.h).
type ggufFile struct {
	metadata, tensors []byte
	entries, count    uint64
	data              uint64 // bytes of the tensors
}

// write makes the model's file, whose weights are a hole: they take no space on the disk.
func (a architecture) write(t *testing.T, path string) {
	t.Helper()
	var f ggufFile
	arch, metadata, _ := strings.Cut(a.metadata, " ")
	for pair := range strings.FieldsSeq("general.architecture=" + arch + " tokenizer.ggml.model=llama tokenizer.ggml.bos_token_id=1 tokenizer.ggml.eos_token_id=2 tokenizer.ggml.token_type_count=2") {
		f.entry(t, pair)
	}
	f.entry(t, fmt.Sprintf("%s.block_count=%d", arch, a.layers))
	for pair := range strings.FieldsSeq(metadata) {
		f.entry(t, arch+"."+pair)
	}
	f.vocabulary(t, a.outside)
	f.list(t, "", a.outside)
	for i := range a.layers {
		f.list(t, fmt.Sprintf("blk.%d.", i), a.layer(i))
	}
	head := binary.LittleEndian.AppendUint64(u32([]byte("GGUF"), 3), f.count)
	head = append(append(binary.LittleEndian.AppendUint64(head, f.entries), f.metadata...), f.tensors...)
	head = append(head, make([]byte, -len(head)&31)...)
	if err := os.WriteFile(path, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(head))+int64(f.data)); err != nil {
		t.Fatal(err)
	}
}

// The types of metadata that are used here (enum gguf_type).
const (
	ggufUint32, ggufInt32, ggufFloat32, ggufBool, ggufString, ggufArray = 4, 5, 6, 7, 8, 9
)

var u32 = binary.LittleEndian.AppendUint32

func text(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func (f *ggufFile) array(key string, kind uint32, count int) {
	f.entries++
	f.metadata = u32(u32(text(f.metadata, key), ggufArray), kind)
	f.metadata = binary.LittleEndian.AppendUint64(f.metadata, uint64(count))
}

// entry adds KEY=VALUE, whose type follows from the value's form.
func (f *ggufFile) entry(t *testing.T, pair string) {
	t.Helper()
	key, value, _ := strings.Cut(pair, "=")
	if inside, isList := strings.CutPrefix(value, "["); isList {
		numbers := strings.Split(strings.TrimSuffix(inside, "]"), ",")
		f.array(key, ggufInt32, len(numbers))
		for _, n := range numbers {
			f.metadata = u32(f.metadata, uint32(number64(t, n)))
		}
		return
	}
	f.entries++
	f.metadata = text(f.metadata, key)
	if n, err := strconv.ParseUint(value, 10, 32); err == nil {
		f.metadata = u32(u32(f.metadata, ggufUint32), uint32(n))
	} else if x, err := strconv.ParseFloat(value, 32); err == nil {
		f.metadata = u32(u32(f.metadata, ggufFloat32), math.Float32bits(float32(x)))
	} else if value == "false" {
		f.metadata = append(u32(f.metadata, ggufBool), 0)
	} else {
		f.metadata = text(u32(f.metadata, ggufString), value)
	}
}

// vocabulary adds tokens as SentencePiece has them: three control tokens, the bytes, and
// words of no meaning: as many as the embedding among the tensors has.
func (f *ggufFile) vocabulary(t *testing.T, tensors string) {
	t.Helper()
	embedding, _, _ := strings.Cut(tensors, " ")
	tokens := int(number64(t, embedding[strings.LastIndex(embedding, ",")+1:]))
	f.array("tokenizer.ggml.tokens", ggufString, tokens)
	kinds := make([]byte, 0, 4*tokens)
	for i := range tokens {
		word, kind := "t"+strconv.Itoa(i), uint32(1)
		switch {
		case i < 3:
			word, kind = []string{"<unk>", "<s>", "</s>"}[i], 3
		case i < 3+256:
			word, kind = fmt.Sprintf("<0x%02X>", i-3), 6
		}
		f.metadata, kinds = text(f.metadata, word), u32(kinds, kind)
	}
	f.array("tokenizer.ggml.token_type", ggufInt32, tokens)
	f.metadata = append(f.metadata, kinds...)
	f.array("tokenizer.ggml.scores", ggufFloat32, tokens)
	f.metadata = append(f.metadata, make([]byte, 4*tokens)...)
}

// list adds tensors, each NAME:DIMENSION,... with ".weight" left out, or "!" at the end
// of a name without it. Matrices are Q8_0 where llama.cpp can have them so, all else F32.
func (f *ggufFile) list(t *testing.T, prefix, tensors string) {
	t.Helper()
	for tensor := range strings.FieldsSeq(tensors) {
		name, dimensions, _ := strings.Cut(tensor, ":")
		var dims []uint64
		elements := uint64(1)
		for d := range strings.SplitSeq(dimensions, ",") {
			dims = append(dims, number64(t, d))
			elements *= dims[len(dims)-1]
		}
		kind, bytes := uint32(0), 4*elements
		bias := strings.HasSuffix(name, ".bias")
		if len(dims) > 1 && dims[0]%32 == 0 && !bias && !strings.HasPrefix(name, "ffn_gate_inp") {
			kind, bytes = 8, elements/32*34
		}
		if plain, isPlain := strings.CutSuffix(name, "!"); isPlain {
			name = plain
		} else if !bias {
			name += ".weight"
		}
		f.tensors = u32(text(f.tensors, prefix+name), uint32(len(dims)))
		for _, d := range dims {
			f.tensors = binary.LittleEndian.AppendUint64(f.tensors, d)
		}
		f.tensors = binary.LittleEndian.AppendUint64(u32(f.tensors, kind), f.data)
		f.data += (bytes + 31) &^ 31
		f.count++
	}
}

func number64(t *testing.T, digits string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
