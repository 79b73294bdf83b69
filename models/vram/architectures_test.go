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
	tokens = 16384 // of every vocabulary that is not the model's own
	norm   = " attention.layer_norm_epsilon=0.00001 attention.layer_norm_rms_epsilon=0.00001 "
)

var testedArchitectures = []architecture{
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
	{
		"Nemotron 4 8B", "nemotron context_length=4096 embedding_length=4096 feed_forward_length=16384 attention.head_count=32 attention.head_count_kv=8 rope.dimension_count=64" + norm,
		4, ends(4096) + "output_norm.bias:4096", each(attention(4096, 4096, 1024) + "attn_norm.bias:4096 ffn_norm:4096 ffn_norm.bias:4096 ffn_up:4096,16384 ffn_down:16384,4096"),
	},
	{
		"Granite 4 H Tiny", "granitehybrid context_length=131072 embedding_length=1536 feed_forward_length=512 expert_count=64 expert_used_count=6 expert_shared_feed_forward_length=1024 expert_feed_forward_length=512 attention.head_count=12 attention.head_count_kv=[0,0,0,4] ssm.conv_kernel=4 ssm.inner_size=3072 ssm.state_size=128 ssm.time_step_rank=48 ssm.group_count=1 rope.scaling.finetuned=false attention.scale=0.0078125 embedding_scale=12.0 residual_scale=0.22 logit_scale=6.0 rope.dimension_count=128" + norm,
		4, tied(1536), func(i int) string {
			moe := "ffn_norm:1536 " + experts(1536, 512, 64) + "ffn_gate_shexp:1536,1024 ffn_up_shexp:1536,1024 ffn_down_shexp:1024,1536"
			if i == 3 {
				return attention(1536, 1536, 512) + moe
			}
			return mamba2(1536, 3072, 128, 1, 48) + moe
		},
	},
	{
		"Nemotron Nano 9B v2", "nemotron_h context_length=131072 embedding_length=4480 feed_forward_length=[0,15680,0,0] attention.head_count=40 attention.head_count_kv=[0,0,0,8] attention.key_length=128 attention.value_length=128 ssm.conv_kernel=4 ssm.inner_size=10240 ssm.state_size=128 ssm.time_step_rank=128 ssm.group_count=8 rope.dimension_count=128" + norm,
		4, ends(4480), func(i int) string {
			switch i {
			case 1:
				return "attn_norm:4480 ffn_up:4480,15680 ffn_down:15680,4480"
			case 3:
				return attention(4480, 5120, 1024)
			}
			return mamba2(4480, 10240, 128, 8, 128)
		},
	},
	{
		"Qwen3 Next 80B A3B", "qwen3next context_length=262144 embedding_length=2048 feed_forward_length=5120 expert_feed_forward_length=512 expert_shared_feed_forward_length=512 expert_count=64 expert_used_count=10 attention.head_count=16 attention.head_count_kv=2 attention.key_length=256 attention.value_length=256 rope.dimension_count=64 ssm.conv_kernel=4 ssm.inner_size=4096 ssm.state_size=128 ssm.time_step_rank=32 ssm.group_count=16" + norm,
		4, ends(2048), func(i int) string {
			moe := "post_attention_norm:2048 " + experts(2048, 512, 64) + "ffn_gate_inp_shexp:2048 ffn_gate_shexp:2048,512 ffn_up_shexp:2048,512 ffn_down_shexp:512,2048"
			if i%4 == 3 {
				return "attn_norm:2048 attn_q:2048,8192 attn_k:2048,512 attn_v:2048,512 attn_output:4096,2048 " + headNorms(256) + moe
			}
			return "attn_norm:2048 ssm_conv1d:4,8192 ssm_dt.bias:32 ssm_a!:32 ssm_norm:128 ssm_out:4096,2048 attn_qkv:2048,8192 attn_gate:2048,4096 ssm_ba:2048,64 " + moe
		},
	},
	{
		"Llama 4 Scout", "llama4 context_length=10485760 embedding_length=5120 feed_forward_length=16384 expert_feed_forward_length=8192 expert_count=4 expert_used_count=1 interleave_moe_layer_step=1 attention.head_count=40 attention.head_count_kv=8 attention.key_length=128 attention.value_length=128 rope.dimension_count=128 attention.chunk_size=8192" + norm,
		4, ends(5120), each(attention(5120, 5120, 1024) + "ffn_norm:5120 " + experts(5120, 8192, 4) + "ffn_gate_shexp:5120,8192 ffn_up_shexp:5120,8192 ffn_down_shexp:8192,5120"),
	},
	{
		"OLMo 2 7B", "olmo2 context_length=4096 embedding_length=4096 feed_forward_length=11008 attention.head_count=32 attention.head_count_kv=32" + norm,
		4, ends(4096), each("attn_q:4096,4096 attn_k:4096,4096 attn_v:4096,4096 attn_output:4096,4096 attn_q_norm:4096 attn_k_norm:4096 post_attention_norm:4096 post_ffw_norm:4096 ffn_gate:4096,11008 ffn_up:4096,11008 ffn_down:11008,4096"),
	},
	{
		"GLM 4.5 Air", "glm4moe context_length=131072 embedding_length=4096 feed_forward_length=10944 expert_feed_forward_length=1408 expert_count=16 expert_used_count=8 expert_shared_count=1 leading_dense_block_count=1 expert_gating_func=2 expert_weights_scale=1.0 attention.head_count=96 attention.head_count_kv=8 attention.key_length=128 attention.value_length=128 rope.dimension_count=64 nextn_predict_layers=0" + norm,
		4, ends(4096), func(i int) string {
			at := attention(4096, 12288, 1024) + biases(12288, 1024) + "post_attention_norm:4096 "
			if i == 0 {
				return at + "ffn_gate:4096,10944 ffn_up:4096,10944 ffn_down:10944,4096"
			}
			return at + "exp_probs_b.bias:16 " + experts(4096, 1408, 16) + "ffn_gate_shexp:4096,1408 ffn_up_shexp:4096,1408 ffn_down_shexp:1408,4096"
		},
	},
	{
		"Jamba Mini", "jamba context_length=262144 embedding_length=4096 feed_forward_length=14336 expert_count=4 expert_used_count=2 attention.head_count=32 attention.head_count_kv=[0,0,8,0] ssm.conv_kernel=4 ssm.inner_size=8192 ssm.state_size=16 ssm.time_step_rank=256" + norm,
		4, ends(4096), func(i int) string {
			ffn := gated(4096, 14336)
			if i == 1 {
				ffn = "ffn_norm:4096 " + experts(4096, 14336, 4)
			}
			if i == 2 {
				return attention(4096, 4096, 1024) + ffn
			}
			return "attn_norm:4096 ssm_in:4096,16384 ssm_conv1d:4,8192 ssm_conv1d.bias:8192 ssm_x:8192,288 ssm_dt_norm:256 ssm_dt:256,8192 ssm_dt.bias:8192 ssm_b_norm:16 ssm_c_norm:16 ssm_a!:16,8192 ssm_d!:8192 ssm_out:8192,4096 " + ffn
		},
	},
	{ // an encoder, which has no cache
		"BGE large", "bert context_length=512 embedding_length=1024 feed_forward_length=4096 attention.head_count=16 attention.causal=false pooling_type=2" + norm,
		4, fmt.Sprintf("token_embd:1024,%d token_types:1024,2 position_embd:1024,512 token_embd_norm:1024 token_embd_norm.bias:1024", tokens), each(
			"attn_q:1024,1024 attn_k:1024,1024 attn_v:1024,1024 attn_output:1024,1024 " + biases(1024, 1024) +
				"attn_output.bias:1024 attn_output_norm:1024 attn_output_norm.bias:1024 ffn_up:1024,4096 ffn_up.bias:4096 ffn_down:4096,1024 ffn_down.bias:1024 layer_output_norm:1024 layer_output_norm.bias:1024"),
	},
	// Small bodies with the whole vocabulary: the output must not count for every token of a micro-batch.
	{
		"Qwen 2.5 0.5B", "qwen2 context_length=32768 embedding_length=896 feed_forward_length=4864 attention.head_count=14 attention.head_count_kv=2" + norm,
		4, tiedOf(896, 151936), each(attention(896, 896, 128) + biases(896, 128) + gated(896, 4864)),
	},
	{
		"Qwen 2.5 3B", "qwen2 context_length=32768 embedding_length=2048 feed_forward_length=11008 attention.head_count=16 attention.head_count_kv=2" + norm,
		4, tiedOf(2048, 151936), each(attention(2048, 2048, 256) + biases(2048, 256) + gated(2048, 11008)),
	},
	{
		"Llama 3.2 1B", "llama context_length=131072 embedding_length=2048 feed_forward_length=8192 attention.head_count=32 attention.head_count_kv=8 rope.dimension_count=64" + norm,
		4, tiedOf(2048, 128256), each(attention(2048, 2048, 512) + gated(2048, 8192)),
	},
	{
		"Gemma 3 270M", "gemma3 context_length=32768 embedding_length=640 feed_forward_length=2048 attention.head_count=4 attention.head_count_kv=1 attention.key_length=256 attention.value_length=256 attention.sliding_window=512" + norm,
		6, tiedOf(640, 262144), each(attention(640, 1024, 256) + headNorms(256) + gated(640, 2048) + "post_attention_norm:640 post_ffw_norm:640"),
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

func tied(width int) string { return tiedOf(width, tokens) }

func tiedOf(width, vocabulary int) string {
	return fmt.Sprintf("token_embd:%d,%d output_norm:%[1]d ", width, vocabulary)
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

// mamba2 gives a layer a state, as Mamba 2 has it: each group shares its projections.
func mamba2(width, inner, state, groups, heads int) string {
	conv := inner + 2*groups*state
	return fmt.Sprintf("attn_norm:%d ssm_in:%[1]d,%d ssm_conv1d:4,%d ssm_conv1d.bias:%[3]d ssm_dt.bias:%d ssm_a!:1,%[4]d ssm_d!:1,%[4]d ssm_norm:%d,%d ssm_out:%d,%[1]d ", width, inner+conv+heads, conv, heads, inner/groups, groups, inner)
}
