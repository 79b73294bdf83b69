package gguf

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func parseBytes(data []byte) (*Header, error) {
	return Parse(bytes.NewReader(data), int64(len(data)))
}

// small is the header that llama() makes.
func small() Header {
	return Header{
		Version: 3, Architecture: "llama", Name: "A small one", SizeLabel: "1K", FileType: 15,
		Layers: 2, Embedding: 64, Heads: 4, KVHeads: []uint32{2, 2}, KeyLength: 16, ValueLength: 16,
		Context: 8192, Vocabulary: 3,
		Memory: Memory{WindowKeyLength: 16, WindowValueLength: 16, TokenShifts: 2},
		Tensors: []Tensor{
			{"token_embd.weight", 0, []uint64{64, 3}, 768},
			{"blk.0.attn_q.weight", 8, []uint64{64, 64}, 4352},
			{"blk.1.attn_norm.weight", 0, []uint64{3}, 12},
			{"blk.1.ffn_up_exps.weight", 1, []uint64{64, 2, 2}, 512},
			{"output.weight", 0, []uint64{64, 3}, 768},
		},
		TensorBytes: 6412, Parameters: 4739, Pooling: PoolingUnset,
	}
}

func TestParse(t *testing.T) {
	tests := map[string]struct {
		file file
		want func(h *Header) // what differs from small
	}{
		"as written": {llama(), func(*Header) {}},
		"version 2": {
			func() file { f := llama(); f.version = 2; return f }(),
			func(h *Header) { h.Version = 2 },
		},
		"the architecture named last": {
			llama().without("general.architecture").with("general.architecture", "llama"),
			func(*Header) {},
		},
		"no texts, no file type": {
			llama().without("general.name").without("general.size_label").without("general.file_type"),
			func(h *Header) { h.Name, h.SizeLabel, h.FileType = "", "", FileTypeUnknown },
		},
		"a name that would redraw a terminal": {
			llama().with("general.name", "Qwen\x1b[2J\n 2.5\xff"),
			func(h *Header) { h.Name = "Qwen[2J 2.5" },
		},
		"a name of a megabyte": {
			llama().with("general.name", strings.Repeat("x", 1<<20)),
			func(h *Header) { h.Name = strings.Repeat("x", maxText) },
		},
		"heads of their own size": {
			llama().with("llama.attention.key_length", uint32(192)).with("llama.attention.value_length", uint32(128)),
			func(h *Header) {
				h.KeyLength, h.ValueLength = 192, 128
				h.Memory.WindowKeyLength, h.Memory.WindowValueLength = 192, 128
			},
		},
		"KV heads not given": {
			llama().without("llama.attention.head_count_kv"),
			func(h *Header) { h.KVHeads = []uint32{4, 4} },
		},
		"KV heads for each layer": {
			llama().with("llama.attention.head_count_kv", []int32{0, 4}),
			func(h *Header) { h.KVHeads = []uint32{0, 4} },
		},
		"heads for each layer, KV heads not given": {
			llama().without("llama.attention.head_count_kv").with("llama.attention.head_count", []uint32{0, 8}),
			func(h *Header) {
				h.Heads, h.KVHeads, h.KeyLength, h.ValueLength = 8, []uint32{0, 8}, 8, 8
				h.Memory.WindowKeyLength, h.Memory.WindowValueLength = 8, 8
			},
		},
		"no attention at all, as in Mamba": {
			llama().with("llama.attention.head_count", uint32(0)).without("llama.attention.head_count_kv"),
			func(h *Header) {
				h.Heads, h.KVHeads, h.KeyLength, h.ValueLength = 0, []uint32{0, 0}, 0, 0
				h.Memory.WindowKeyLength, h.Memory.WindowValueLength = 0, 0
			},
		},
		"numbers of other widths": {
			llama().with("llama.block_count", uint64(2)).with("llama.context_length", int32(8192)).
				with("general.file_type", uint8(15)).with("llama.embedding_length", uint16(64)),
			func(*Header) {},
		},
		"experts": {
			llama().with("llama.expert_count", uint32(8)).with("llama.expert_used_count", uint32(2)),
			func(h *Header) { h.Experts, h.ExpertsUsed = 8, 2 },
		},
		"a window on every layer but the sixth": {
			llama().with("llama.attention.sliding_window", uint32(1024)).with("llama.attention.sliding_window_pattern", uint32(6)).
				with("llama.attention.key_length_swa", uint32(8)).with("llama.attention.value_length_swa", uint32(4)),
			func(h *Header) {
				h.Memory.Window, h.Memory.WindowPeriod = 1024, 6
				h.Memory.WindowKeyLength, h.Memory.WindowValueLength = 8, 4
			},
		},
		"windows by layer": {
			llama().with("llama.attention.sliding_window_pattern", []bool{true, false}),
			func(h *Header) { h.Memory.WindowLayers = []bool{true, false} },
		},
		"windows by layer, as numbers": {
			llama().with("llama.attention.sliding_window_pattern", []uint32{0, 1}),
			func(h *Header) { h.Memory.WindowLayers = []bool{false, true} },
		},
		"a latent cache": {
			llama().with("llama.attention.key_length_mla", uint32(192)),
			func(h *Header) { h.Memory.Latent = true },
		},
		"layers at the end": {
			llama().with("llama.attention.shared_kv_layers", uint32(1)).with("llama.nextn_predict_layers", uint32(1)),
			func(h *Header) { h.Memory.SharedLayers, h.Memory.DraftLayers = 1, 1 },
		},
		"states": {
			llama().with("llama.ssm.conv_kernel", uint32(4)).with("llama.ssm.inner_size", uint32(4096)).
				with("llama.ssm.state_size", uint32(128)).with("llama.ssm.group_count", uint32(16)).
				with("llama.kda.head_dim", uint32(127)).with("llama.wkv.head_size", uint32(64)).
				with("llama.token_shift_count", uint32(1)).with("llama.shortconv.l_cache", uint32(3)),
			func(h *Header) {
				m := &h.Memory
				m.StateKernel, m.StateInner, m.StateSize, m.StateGroups = 4, 4096, 128, 16
				m.DeltaHead, m.WKVHead, m.TokenShifts, m.ShortKernel = 127, 64, 1, 3
			},
		},
		"an embedding model": {
			llama().with("llama.pooling_type", uint32(1)).with("llama.attention.causal", false),
			func(h *Header) { h.Pooling, h.Bidirectional = PoolingMean, true },
		},
		"a model that says that it generates": {
			llama().with("llama.attention.causal", true),
			func(*Header) {},
		},
		"a pooling that is no number": {
			llama().with("llama.pooling_type", "mean").with("llama.attention.causal", "false"),
			func(*Header) {},
		},
		"a rank head": {
			llama().withTensors(tensor{name: "cls.output.weight", kind: 0, dims: []uint64{64, 1}, size: 256}),
			func(h *Header) {
				h.Tensors, h.TensorBytes, h.Parameters = []Tensor{{"cls.output.weight", 0, []uint64{64, 1}, 256}}, 256, 64
				h.RankHead = true
			},
		},
		"a chat template": {
			llama().with("tokenizer.chat_template", "{{ messages }}"),
			func(h *Header) { h.ChatTemplate = true },
		},
		"a chat template with tools far back": {
			llama().with("tokenizer.chat_template", strings.Repeat(" ", 20<<10)+"{% if tools %}"),
			func(h *Header) { h.ChatTemplate, h.ToolTemplate = true, true },
		},
		"a template of its own for tools": {
			llama().with("tokenizer.chat_template", "{{ messages }}").with("tokenizer.chat_template.tool_use", "{{ tools }}"),
			func(h *Header) { h.ChatTemplate, h.ToolTemplate = true, true },
		},
		"estimates have no use for this": {
			llama().with("llama.attention.sliding_window", "512").with("llama.attention.sliding_window_pattern", []bool{true, true, true}).
				with("llama.attention.key_length_mla", []uint32{192}).with("llama.ssm.inner_size", uint64(1<<33)).
				with("llama.token_shift_count", float32(3)).with("llama.attention.shared_kv_layers", true),
			func(*Header) {},
		},
		"entries that are not wanted": {
			llama().with("llama.rope.freq_base", float32(1e6)).with("tokenizer.ggml.add_bos_token", true).
				with(strings.Repeat("k", 300), "a long key").with("tokenizer.ggml.merges", []string{"a b", ""}),
			func(*Header) {},
		},
		"wider alignment": {
			func() file { f := llama().with("general.alignment", uint32(4096)); f.align = 4096; return f }(),
			func(*Header) {},
		},
		"a vocabulary without tensors": {
			llama().withTensors(),
			func(h *Header) { h.Tensors, h.TensorBytes, h.Parameters = nil, 0, 0 },
		},
		"a tensor without dimensions": {
			llama().withTensors(tensor{name: "scale", kind: 0, size: 4}),
			func(h *Header) {
				h.Tensors, h.TensorBytes, h.Parameters = []Tensor{{"scale", 0, []uint64{}, 4}}, 4, 1
			},
		},
		"tensors of unknown types": {
			llama().withTensors(
				tensor{name: "a", kind: 99, dims: []uint64{33}, size: 70},
				tensor{name: "b", kind: 31, dims: []uint64{1 << 40}, size: 64},
				tensor{name: "c", kind: 0, dims: []uint64{1}, size: 4},
				tensor{name: "d", kind: 99, dims: []uint64{1}, size: 5},
			),
			func(h *Header) {
				h.Tensors = []Tensor{
					{"a", 99, []uint64{33}, 96}, // includes the padding, which cannot be distinguished
					{"b", 31, []uint64{1 << 40}, 64},
					{"c", 0, []uint64{1}, 4},
					{"d", 99, []uint64{1}, 5}, // to the end of the file
				}
				h.TensorBytes, h.Parameters = 169, 1<<40+35
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := small()
			tt.want(&want)
			got, err := parseBytes(tt.file.bytes(t))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

// A slow disk may return a byte at a time, and a read error must differ from a short file.
func TestParseReader(t *testing.T) {
	data := llama().bytes(t)
	got, err := Parse(iotest.OneByteReader(bytes.NewReader(data)), int64(len(data)))
	if err != nil || got.TensorBytes != small().TensorBytes {
		t.Errorf("byte by byte: %v, %v", got, err)
	}
	failure := errors.New("bad sector")
	_, err = Parse(iotest.ErrReader(failure), 100)
	if !errors.Is(err, failure) {
		t.Errorf("a read error became %v", err)
	}
	_, err = Parse(bytes.NewReader(data[:100]), int64(len(data)))
	if err == nil || !strings.Contains(err.Error(), "after 100 bytes") {
		t.Errorf("a reader that ends early gave %v", err)
	}
}
