package vram

import "fmt"

// architecture is a model of an architecture, of which every layer is as wide as in the
// published model that it is named after. It has fewer layers, experts and tokens, so
// that each tensor fits into the smallest buffers.
type architecture struct {
	name     string
	metadata string // the architecture's name, then KEY=VALUE without that prefix
	layers   int
	outside  string // tensors outside the layers, each NAME:DIMENSION,...
	layer    func(i int) string
}

const (
	tokens = 16384 // of every vocabulary here
	norm   = " attention.layer_norm_epsilon=0.00001 attention.layer_norm_rms_epsilon=0.00001 "
)

var architectures = []architecture{
	{
		"Llama 3.1 8B", "llama context_length=131072 embedding_length=4096 feed_forward_length=14336 attention.head_count=32 attention.head_count_kv=8 rope.dimension_count=128" + norm,
		4, ends(4096), each(attention(4096, 4096, 1024) + gated(4096, 14336)),
	},
	{ // llama.cpp ignores its window
		"Mistral 7B 0.1", "llama context_length=32768 embedding_length=4096 feed_forward_length=14336 attention.head_count=32 attention.head_count_kv=8 rope.dimension_count=128 attention.sliding_window=4096" + norm,
		4, ends(4096), each(attention(4096, 4096, 1024) + gated(4096, 14336)),
	},
	{
		"Qwen 2.5 14B", "qwen2 context_length=32768 embedding_length=5120 feed_forward_length=13824 attention.head_count=40 attention.head_count_kv=8" + norm,
		4, ends(5120), each(attention(5120, 5120, 1024) + biases(5120, 1024) + gated(5120, 13824)),
	},
	{
		"Qwen3 8B", "qwen3 context_length=40960 embedding_length=4096 feed_forward_length=12288 attention.head_count=32 attention.head_count_kv=8 attention.key_length=128 attention.value_length=128" + norm,
		4, ends(4096), each(attention(4096, 4096, 1024) + headNorms(128) + gated(4096, 12288)),
	},
	{
		"Qwen3 30B A3B", "qwen3moe context_length=40960 embedding_length=2048 feed_forward_length=6144 expert_feed_forward_length=768 expert_count=64 expert_used_count=8 attention.head_count=32 attention.head_count_kv=4 attention.key_length=128 attention.value_length=128" + norm,
		4, ends(2048), each(attention(2048, 4096, 512) + headNorms(128) + "ffn_norm:2048 " + experts(2048, 768, 64)),
	},
	{
		"Gemma 2 9B", "gemma2 context_length=8192 embedding_length=3584 feed_forward_length=14336 attention.head_count=16 attention.head_count_kv=8 attention.key_length=256 attention.value_length=256 attention.sliding_window=4096" + norm,
		4, tied(3584), each(attention(3584, 4096, 2048) + gated(3584, 14336) + "post_attention_norm:3584 post_ffw_norm:3584"),
	},
	{
		"Gemma 3 12B", "gemma3 context_length=131072 embedding_length=3840 feed_forward_length=15360 attention.head_count=16 attention.head_count_kv=8 attention.key_length=256 attention.value_length=256 attention.sliding_window=1024" + norm,
		6, tied(3840), each(attention(3840, 4096, 2048) + headNorms(256) + gated(3840, 15360) + "post_attention_norm:3840 post_ffw_norm:3840"),
	},
	{
		"Phi 3.5 mini", "phi3 context_length=131072 embedding_length=3072 feed_forward_length=8192 attention.head_count=32 attention.head_count_kv=32 rope.dimension_count=96 rope.scaling.original_context_length=4096 attention.sliding_window=262144" + norm,
		4, ends(3072), each("attn_norm:3072 attn_qkv:3072,9216 attn_output:3072,3072 ffn_norm:3072 ffn_up:3072,16384 ffn_down:8192,3072"),
	},
	{
		"DeepSeek V2", "deepseek2 context_length=163840 embedding_length=2048 feed_forward_length=10944 expert_feed_forward_length=1408 expert_count=32 expert_used_count=6 expert_shared_count=2 expert_weights_scale=1.0 leading_dense_block_count=1 attention.head_count=16 attention.head_count_kv=1 attention.key_length=576 attention.value_length=512 attention.key_length_mla=192 attention.value_length_mla=128 attention.q_lora_rank=512 attention.kv_lora_rank=512 rope.dimension_count=64" + norm,
		4, ends(2048), func(i int) string {
			latent := "attn_norm:2048 attn_q_a:2048,512 attn_q_a_norm:512 attn_q_b:512,3072 attn_kv_a_mqa:2048,576 attn_kv_a_norm:512 attn_k_b:128,512,16 attn_v_b:512,128,16 attn_output:2048,2048 "
			if i == 0 {
				return latent + gated(2048, 10944)
			}
			return latent + "ffn_norm:2048 " + experts(2048, 1408, 32) + "ffn_gate_shexp:2048,2816 ffn_up_shexp:2048,2816 ffn_down_shexp:2816,2048"
		},
	},
	{
		"gpt-oss 20B", "gpt-oss context_length=131072 embedding_length=2880 feed_forward_length=2880 expert_feed_forward_length=2880 expert_count=12 expert_used_count=4 attention.head_count=64 attention.head_count_kv=8 attention.key_length=64 attention.value_length=64 attention.sliding_window=128" + norm,
		4, ends(2880), each(attention(2880, 4096, 512) + biases(4096, 512) + "attn_output.bias:2880 post_attention_norm:2880 attn_sinks:64 " + experts(2880, 2880, 12) +
			"ffn_gate_inp.bias:12 ffn_gate_exps.bias:2880,12 ffn_up_exps.bias:2880,12 ffn_down_exps.bias:2880,12"),
	},
	{
		"Command R7B", "cohere2 context_length=131072 embedding_length=4096 feed_forward_length=14336 attention.head_count=32 attention.head_count_kv=8 attention.key_length=128 attention.value_length=128 attention.sliding_window=4096 logit_scale=0.25" + norm,
		4, tied(4096), each(attention(4096, 4096, 1024) + "ffn_gate:4096,14336 ffn_up:4096,14336 ffn_down:14336,4096"),
	},
	{
		"StarCoder2 7B", "starcoder2 context_length=16384 embedding_length=4608 feed_forward_length=18432 attention.head_count=36 attention.head_count_kv=4" + norm,
		4, ends(4608) + "output_norm.bias:4608", each(attention(4608, 4608, 512) + biases(4608, 512) +
			"attn_norm.bias:4608 attn_output.bias:4608 ffn_norm:4608 ffn_norm.bias:4608 ffn_up:4608,18432 ffn_up.bias:18432 ffn_down:18432,4608 ffn_down.bias:4608"),
	},
	{
		"Mamba 2.8B", "mamba context_length=1048576 embedding_length=2560 feed_forward_length=0 attention.head_count=0 ssm.conv_kernel=4 ssm.inner_size=5120 ssm.state_size=16 ssm.time_step_rank=160" + norm,
		4, tied(2560), each("attn_norm:2560 ssm_in:2560,10240 ssm_conv1d:4,5120 ssm_conv1d.bias:5120 ssm_x:5120,192 ssm_dt:160,5120 ssm_dt.bias:5120 ssm_a!:16,5120 ssm_d!:5120 ssm_out:5120,2560"),
	},
	{
		"Falcon H1 7B", "falcon-h1 context_length=262144 embedding_length=3072 feed_forward_length=12288 attention.head_count=12 attention.head_count_kv=2 attention.key_length=128 attention.value_length=128 ssm.conv_kernel=4 ssm.inner_size=3072 ssm.state_size=256 ssm.time_step_rank=24 ssm.group_count=1" + norm,
		4, ends(3072), each(attention(3072, 1536, 256) + "ssm_in:3072,6680 ssm_conv1d:4,3584 ssm_conv1d.bias:3584 ssm_dt.bias:24 ssm_a!:1,24 ssm_d!:1,24 ssm_norm:3072,1 ssm_out:3072,3072 ffn_norm!:3072 ffn_gate:3072,12288 ffn_up:3072,12288 ffn_down:12288,3072"),
	},
	{ // an encoder, which has no cache
		"BGE large", "bert context_length=512 embedding_length=1024 feed_forward_length=4096 attention.head_count=16 attention.causal=false pooling_type=2" + norm,
		4, fmt.Sprintf("token_embd:1024,%d token_types:1024,2 position_embd:1024,512 token_embd_norm:1024 token_embd_norm.bias:1024", tokens), each(
			"attn_q:1024,1024 attn_k:1024,1024 attn_v:1024,1024 attn_output:1024,1024 " + biases(1024, 1024) +
				"attn_output.bias:1024 attn_output_norm:1024 attn_output_norm.bias:1024 ffn_up:1024,4096 ffn_up.bias:4096 ffn_down:4096,1024 ffn_down.bias:1024 layer_output_norm:1024 layer_output_norm.bias:1024"),
	},
	{
		"LFM2 1.2B", "lfm2 context_length=128000 embedding_length=2048 feed_forward_length=8192 shortconv.l_cache=3 attention.head_count=32 attention.head_count_kv=[0,0,8,0,0,8,0,0,8,0,8,0,8,0,8,0]" + norm,
		16, fmt.Sprintf("token_embd:2048,%d token_embd_norm:2048", tokens), func(i int) string {
			switch i {
			case 2, 5, 8, 10, 12, 14:
				return attention(2048, 2048, 512) + headNorms(64) + gated(2048, 8192)
			}
			return "attn_norm:2048 shortconv.conv:3,2048 shortconv.in_proj:2048,6144 shortconv.out_proj:2048,2048 " + gated(2048, 8192)
		},
	},
}

// each gives all layers the same tensors.
func each(tensors string) func(int) string { return func(int) string { return tensors } }

func tied(width int) string {
	return fmt.Sprintf("token_embd:%d,%d output_norm:%[1]d ", width, tokens)
}

func ends(width int) string { return tied(width) + fmt.Sprintf("output:%d,%d ", width, tokens) }

func attention(width, queries, keys int) string {
	return fmt.Sprintf("attn_norm:%[1]d attn_q:%[1]d,%[2]d attn_k:%[1]d,%[3]d attn_v:%[1]d,%[3]d attn_output:%[2]d,%[1]d ", width, queries, keys)
}

func biases(queries, keys int) string {
	return fmt.Sprintf("attn_q.bias:%d attn_k.bias:%d attn_v.bias:%[2]d ", queries, keys)
}

func headNorms(size int) string { return fmt.Sprintf("attn_q_norm:%d attn_k_norm:%[1]d ", size) }

func gated(width, inner int) string {
	return fmt.Sprintf("ffn_norm:%d ffn_gate:%[1]d,%d ffn_up:%[1]d,%[2]d ffn_down:%[2]d,%[1]d ", width, inner)
}

func experts(width, inner, count int) string {
	return fmt.Sprintf("ffn_gate_inp:%d,%[3]d ffn_gate_exps:%[1]d,%[2]d,%[3]d ffn_up_exps:%[1]d,%[2]d,%[3]d ffn_down_exps:%[2]d,%[1]d,%[3]d ", width, inner, count)
}
