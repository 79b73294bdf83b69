package vram

import (
	"fmt"
	"slices"

	"github.com/llmsup/llmsup/models/gguf"
)

const mib = 1 << 20

// The types that tensors of the test's models are stored in, with the bytes of
// 256 elements.
var types = map[string]uint64{"F32": 1024, "F16": 512, "Q8_0": 272, "Q4_K": 144, "Q6_K": 210, "MXFP4": 136}

// tensor makes one of a type and dimensions, the row's length first.
func tensor(name, kind string, dims ...uint64) gguf.Tensor {
	size := types[kind]
	for _, d := range dims {
		size *= d
	}
	return gguf.Tensor{Name: name, Dims: dims, Bytes: size / 256}
}

// transformer is what a common model is made of: attention with an RMS norm, and
// a gated feed-forward network or experts.
type transformer struct {
	arch             string
	layers           uint32
	embedding        uint64
	heads, kvHeads   uint64
	key, value       uint64 // elements of a head; 0 = embedding/heads
	network          uint64 // feed-forward elements, of one expert where there are experts
	experts, used    uint64
	vocabulary       uint64
	biases, headNorm bool // attn_q, attn_k and attn_v have a bias; attn_q and attn_k have a norm
	tied             bool // the embedding is the output, and is a Q6_K
	context          uint32
	memory           gguf.Memory
}

// header is the model's as llama-quantize makes a Q4_K_M of it: more bits for
// attn_v and ffn_down in every third layer, and in the first and last eighth
// (use_more_bits in llama.cpp's src/llama-quant.cpp), and a Q6_K output.
func (m transformer) header() *gguf.Header {
	if m.key == 0 {
		m.key = m.embedding / m.heads
	}
	if m.value == 0 {
		m.value = m.key
	}
	embedding := "Q4_K"
	if m.tied {
		embedding = "Q6_K"
	}
	tensors := []gguf.Tensor{tensor("token_embd.weight", embedding, m.embedding, m.vocabulary), tensor("output_norm.weight", "F32", m.embedding)}
	if !m.tied {
		tensors = append(tensors, tensor("output.weight", "Q6_K", m.embedding, m.vocabulary))
	}
	for i := range m.layers {
		tensors = append(tensors, m.layer(i)...)
	}
	return m.fill(tensors)
}

// fill makes a header of the model's numbers and of some tensors.
func (m transformer) fill(tensors []gguf.Tensor) *gguf.Header {
	h := &gguf.Header{
		Version: 3, Architecture: m.arch, Layers: m.layers, Embedding: uint32(m.embedding),
		Heads: uint32(m.heads), KVHeads: slices.Repeat([]uint32{uint32(m.kvHeads)}, int(m.layers)),
		KeyLength: uint32(m.key), ValueLength: uint32(m.value), Context: m.context, Vocabulary: uint32(m.vocabulary),
		Experts: uint32(m.experts), ExpertsUsed: uint32(m.used), Memory: m.memory, Tensors: tensors,
	}
	for _, t := range tensors {
		h.TensorBytes += t.Bytes
	}
	return h
}

func (m transformer) layer(i uint32) []gguf.Tensor {
	more := "Q4_K"
	if n := m.layers; i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2 {
		more = "Q6_K"
	}
	name := func(s string) string { return fmt.Sprintf("blk.%d.%s", i, s) }
	tensors := []gguf.Tensor{
		tensor(name("attn_norm.weight"), "F32", m.embedding),
		tensor(name("ffn_norm.weight"), "F32", m.embedding),
		tensor(name("attn_q.weight"), "Q4_K", m.embedding, m.heads*m.key),
		tensor(name("attn_k.weight"), "Q4_K", m.embedding, m.kvHeads*m.key),
		tensor(name("attn_v.weight"), more, m.embedding, m.kvHeads*m.value),
		tensor(name("attn_output.weight"), "Q4_K", m.heads*m.value, m.embedding),
	}
	if m.biases {
		tensors = append(tensors,
			tensor(name("attn_q.bias"), "F32", m.heads*m.key),
			tensor(name("attn_k.bias"), "F32", m.kvHeads*m.key),
			tensor(name("attn_v.bias"), "F32", m.kvHeads*m.value))
	}
	if m.headNorm {
		tensors = append(tensors, tensor(name("attn_q_norm.weight"), "F32", m.key), tensor(name("attn_k_norm.weight"), "F32", m.key))
	}
	if m.experts > 0 {
		return append(tensors,
			tensor(name("ffn_gate_inp.weight"), "F32", m.embedding, m.experts),
			tensor(name("ffn_gate_exps.weight"), "Q4_K", m.embedding, m.network, m.experts),
			tensor(name("ffn_up_exps.weight"), "Q4_K", m.embedding, m.network, m.experts),
			tensor(name("ffn_down_exps.weight"), more, m.network, m.embedding, m.experts))
	}
	return append(tensors,
		tensor(name("ffn_gate.weight"), "Q4_K", m.embedding, m.network),
		tensor(name("ffn_up.weight"), "Q4_K", m.embedding, m.network),
		tensor(name("ffn_down.weight"), more, m.network, m.embedding))
}

// The models' numbers are those of their config.json at Hugging Face.
var (
	qwen7B = transformer{
		arch: "qwen2", layers: 28, embedding: 3584, heads: 28, kvHeads: 4, network: 18944, vocabulary: 152064, biases: true, context: 32768,
	}
	qwen14B = transformer{
		arch: "qwen2", layers: 48, embedding: 5120, heads: 40, kvHeads: 8, network: 13824, vocabulary: 152064, biases: true, context: 32768,
	}
	qwen32B = transformer{
		arch: "qwen2", layers: 64, embedding: 5120, heads: 40, kvHeads: 8, network: 27648, vocabulary: 152064, biases: true, context: 32768,
	}
	llama8B = transformer{
		arch: "llama", layers: 32, embedding: 4096, heads: 32, kvHeads: 8, network: 14336, vocabulary: 128256, context: 131072,
	}
	llama2 = transformer{
		arch: "llama", layers: 32, embedding: 4096, heads: 32, kvHeads: 32, network: 11008, vocabulary: 32000, context: 4096,
	}
	mistral7B = transformer{
		arch: "llama", layers: 32, embedding: 4096, heads: 32, kvHeads: 8, network: 14336, vocabulary: 32000, context: 32768,
		memory: gguf.Memory{Window: 4096},
	}
	mixtral = transformer{
		arch: "llama", layers: 32, embedding: 4096, heads: 32, kvHeads: 8, network: 14336, experts: 8, used: 2, vocabulary: 32000, context: 32768,
	}
	qwenMoE = transformer{ // Qwen3 30B A3B
		arch: "qwen3moe", layers: 48, embedding: 2048, heads: 32, kvHeads: 4, key: 128, network: 768, experts: 128, used: 8,
		vocabulary: 151936, headNorm: true, context: 40960,
	}
	gemma12B = transformer{
		arch: "gemma3", layers: 48, embedding: 3840, heads: 16, kvHeads: 8, key: 256, network: 15360, vocabulary: 262208, headNorm: true, tied: true,
		context: 131072, memory: gguf.Memory{Window: 1024, WindowKeyLength: 256, WindowValueLength: 256},
	}
	gptOSS = transformer{ // 20B
		arch: "gpt-oss", layers: 24, embedding: 2880, heads: 64, kvHeads: 8, key: 64, network: 2880, experts: 32, used: 4,
		vocabulary: 201088, biases: true, context: 131072, memory: gguf.Memory{Window: 128, WindowKeyLength: 64, WindowValueLength: 64},
	}
	qwen3B = transformer{
		arch: "qwen2", layers: 36, embedding: 2048, heads: 16, kvHeads: 2, network: 11008, vocabulary: 151936, biases: true, tied: true, context: 32768,
	}
	llama70B = transformer{ // 3.1
		arch: "llama", layers: 80, embedding: 8192, heads: 64, kvHeads: 8, network: 28672, vocabulary: 128256, context: 131072,
	}
	commandR = transformer{ // 35B
		arch: "command-r", layers: 40, embedding: 8192, heads: 64, kvHeads: 64, network: 22528, vocabulary: 256000, tied: true, context: 131072,
	}
	gemma27B = transformer{
		arch: "gemma3", layers: 62, embedding: 5376, heads: 32, kvHeads: 16, key: 128, network: 21504, vocabulary: 262208, headNorm: true, tied: true,
		context: 131072, memory: gguf.Memory{Window: 1024, WindowKeyLength: 128, WindowValueLength: 128},
	}
	qwen235B = transformer{ // A22B
		arch: "qwen3moe", layers: 94, embedding: 4096, heads: 64, kvHeads: 4, key: 128, network: 1536, experts: 128, used: 8,
		vocabulary: 151936, headNorm: true, context: 40960,
	}
	deepseekV3 = transformer{ // with 3 dense layers, which count as the others here
		arch: "deepseek2", layers: 61, embedding: 7168, heads: 128, kvHeads: 1, key: 576, value: 512, network: 2048, experts: 256, used: 8,
		vocabulary: 129280, context: 163840, memory: gguf.Memory{Latent: true},
	}
	deepseekLite = transformer{ // V2 Lite; llama.cpp makes one KV head of its 16, of 512 latent and 64 rotated elements
		arch: "deepseek2", layers: 27, embedding: 2048, heads: 16, kvHeads: 1, key: 576, value: 512, network: 1408, experts: 64, used: 6,
		vocabulary: 102400, context: 163840, memory: gguf.Memory{Latent: true},
	}
)

// recurrent is a model of which every layer but each interval-th keeps a state.
func recurrent(m transformer, interval uint32, stateTensor string) *gguf.Header {
	tensors := []gguf.Tensor{tensor("token_embd.weight", "Q4_K", m.embedding, m.vocabulary), tensor("output.weight", "Q6_K", m.embedding, m.vocabulary)}
	for i := range m.layers {
		name := fmt.Sprintf("blk.%d.attn_k.weight", i)
		if interval == 0 || (i+1)%interval != 0 {
			name = fmt.Sprintf("blk.%d.%s", i, stateTensor)
		}
		tensors = append(tensors, tensor(name, "Q4_K", m.embedding, m.embedding))
	}
	return m.fill(tensors)
}
