package vram

import (
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// The sizes are what llama.cpp prints when it loads the model, in MiB: "CUDA0
// model buffer size" (or Vulkan's, ROCm's), "KV buffer size" and "RS buffer
// size". Where no such log was found the figure is derived by hand, and the
// comment says how.
func TestEstimate(t *testing.T) {
	gemma4 := gemma12B
	gemma4.arch, gemma4.memory.WindowKeyLength, gemma4.memory.WindowValueLength = "gemma4", 128, 128
	gemma4.memory.WindowLayers, gemma4.memory.SharedLayers = make([]bool, 48), 8
	gemma4.memory.WindowLayers[0] = true
	heads := llama8B.header()
	heads.KVHeads[31] = 0

	delta := gguf.Memory{StateKernel: 4, StateInner: 4096, StateSize: 128, StateGroups: 16}
	tests := map[string]struct {
		header      *gguf.Header
		run         Run
		weights, kv float64 // MiB; weights 0 = not looked at
	}{
		"Qwen 2.5 7B":            {qwen7B.header(), Run{CtxSize: 8192, GPULayers: 99}, 4168.09, 448},
		"Qwen 2.5 7B at 32K":     {qwen7B.header(), Run{CtxSize: 32768, GPULayers: 99}, 4168.09, 1792},
		"Qwen 2.5 14B":           {qwen14B.header(), Run{CtxSize: 8192, GPULayers: 99}, 8148.38, 1536},
		"Qwen 2.5 14B at 4K":     {qwen14B.header(), Run{CtxSize: 4096, GPULayers: 49}, 8148.38, 768},
		"Qwen 2.5 32B":           {qwen32B.header(), Run{CtxSize: 8192, GPULayers: 99}, 18508.35, 2048},
		"Llama 3.1 8B":           {llama8B.header(), Run{CtxSize: 4096, GPULayers: 99}, 4403.49, 512},
		"Llama 2 7B, no groups":  {llama2.header(), Run{CtxSize: 4096, GPULayers: 99}, 3820.94, 2048},
		"Mistral 7B":             {mistral7B.header(), Run{CtxSize: 4096, GPULayers: 99}, 4095.05, 512},
		"Qwen3 30B A3B, experts": {qwenMoE.header(), Run{CtxSize: 4096, GPULayers: 99}, 0, 384},
		// 32 layers x 8192 tokens x 2 x 1024 elements x 2 bytes.
		"Mixtral 8x7B": {mixtral.header(), Run{CtxSize: 8192, GPULayers: 99}, 0, 1024},
		// 11669: 8 layers of 8192 cells and 40 of 1536 for one slot, 4608 for four.
		// Three slots that share nothing have 2816 cells each, and 1536.
		"Gemma 3 12B, windows, one slot":    {gemma12B.header(), Run{CtxSize: 8192, GPULayers: 99, Args: []string{"-np", "1"}}, 0, 512 + 480},
		"Gemma 3 12B, windows, three slots": {gemma12B.header(), Run{CtxSize: 8192, GPULayers: 99, Args: []string{"-np", "3"}}, 0, 528 + 1440},
		"Gemma 3 12B, windows":              {gemma12B.header(), Run{CtxSize: 8192, GPULayers: 99}, 0, 512 + 1440},
		"Gemma 3 12B, all tokens":           {gemma12B.header(), Run{CtxSize: 8192, GPULayers: 99, Args: []string{"--swa-full"}}, 0, 3072},
		"gpt-oss 20B, one slot":             {gptOSS.header(), Run{CtxSize: 131072, GPULayers: 99, Args: []string{"-np", "1"}}, 0, 3072 + 18},
		// By hand: 12 layers of 1024 cells, 4 x 128 + 512, at 2 KiB a cell.
		"gpt-oss 20B": {gptOSS.header(), Run{CtxSize: 131072, GPULayers: 99}, 0, 3072 + 24},
		// 11669: 27 layers x 8192 tokens x 576 elements x 2 bytes, and no values.
		"DeepSeek V2 Lite, latent": {deepseekLite.header(), Run{CtxSize: 8192, GPULayers: 99}, 0, 243},
		// ggml-org/llama.cpp pull request 11446: K^R 244.00 and c^KV 1952.00 MiB.
		"DeepSeek V3": {deepseekV3.header(), Run{CtxSize: 32768, GPULayers: 99}, 0, 2196},
		// ikawrakow/ik_llama.cpp pull request 259: c^KV (q8_0) 1166.62 MiB.
		"DeepSeek V3, quantised cache": {deepseekV3.header(), Run{CtxSize: 32768, GPULayers: 99, Args: []string{"-ctk", "q8_0"}}, 0, 1166.625},
		// ggml-org/llama.cpp pull request 6122: 1536.00 and 3584.00 MiB on two GPUs.
		"Command R 35B, no groups": {commandR.header(), Run{CtxSize: 4096, GPULayers: 99}, 0, 5120},
		// SciSharp/LLamaSharp issue 1099.
		"Qwen 2.5 3B": {qwen3B.header(), Run{CtxSize: 4096, GPULayers: 99}, 0, 144},
		// By hand: 80 layers, and 94, x 8192 tokens x 2 x 1024, and 512, elements x 2 bytes.
		"Llama 3.1 70B":   {llama70B.header(), Run{CtxSize: 8192, GPULayers: 99}, 0, 2560},
		"Qwen3 235B A22B": {qwen235B.header(), Run{CtxSize: 8192, GPULayers: 99}, 0, 1504},
		// By hand: 10 layers of 8192 cells, and 52 of 1536, at 8 KiB a cell.
		"Gemma 3 27B, windows, one slot": {gemma27B.header(), Run{CtxSize: 8192, GPULayers: 99, Args: []string{"-np", "1"}}, 0, 640 + 624},
		// By hand: 39 full layers of 8192 cells at 8 KiB; the layer with a window of
		// 4608 at 4 KiB; the last 8 have none of their own.
		"windows and shared layers by list": {gemma4.header(), Run{CtxSize: 8192, GPULayers: 99}, 0, 39*64 + 18},
		"a window that llama.cpp ignores":   {mistral7B.header(), Run{CtxSize: 8192, GPULayers: 99}, 0, 1024},
		"a layer without attention":         {heads, Run{CtxSize: 8192, GPULayers: 99}, 0, 992},
		// By hand for the cache: 12 of 48 layers x 8192 x 1024 elements x 2 bytes.
		// Their states: 36 x 548864 elements x 4 bytes x 4 slots.
		"Qwen3-Next 80B, delta nets": {
			recurrent(transformer{arch: "qwen3next", layers: 48, embedding: 2048, heads: 16, kvHeads: 2, key: 256, value: 256, vocabulary: 151936, memory: delta}, 4, "ssm_in.weight"),
			Run{CtxSize: 8192, GPULayers: 99},
			0, 192 + 301.5,
		},
		// ggml-org/llama.cpp pull request 23792 shows 448.88 MiB for three slots.
		// Its cache by hand: 16 layers x 8192 x 2048 elements x 2 bytes.
		"Qwen 3.5 27B, three slots": {
			recurrent(transformer{
				arch: "qwen35", layers: 64, embedding: 5120, heads: 24, kvHeads: 4, key: 256, value: 256, vocabulary: 248320,
				memory: gguf.Memory{StateKernel: 4, StateInner: 6144, StateSize: 128, StateGroups: 16},
			}, 4, "ssm_alpha.weight"),
			Run{CtxSize: 8192, GPULayers: 99, Args: []string{"-np", "3", "-kvu"}},
			0, 512 + 448.875,
		},
		// By hand: 64 layers x (3 x 5120 + 16 x 5120 elements) x 4 bytes x 4 slots;
		// whatever the context is.
		"Mamba 2.8B": {
			recurrent(transformer{arch: "mamba", layers: 64, embedding: 2560, heads: 1, vocabulary: 50280, memory: gguf.Memory{StateKernel: 4, StateInner: 5120, StateSize: 16}}, 0, "ssm_in.weight"),
			Run{CtxSize: 1 << 20, GPULayers: 99},
			0, 95,
		},
		// By hand: 32 layers x (2 + 64) x 4096 elements x 4 bytes x 4 slots.
		"RWKV 6 7B": {
			recurrent(transformer{arch: "rwkv6", layers: 32, embedding: 4096, heads: 1, vocabulary: 65536, memory: gguf.Memory{WKVHead: 64, TokenShifts: 2}}, 0, "time_mix_w1.weight"),
			Run{CtxSize: 8192, GPULayers: 99},
			0, 132,
		},
		// By hand: 8 layers x 2 x 2048 elements x 4 bytes x 4 slots, and 8 x 8192 x
		// 1024 elements x 2 bytes.
		"LFM2, short convolutions": {
			recurrent(transformer{arch: "lfm2", layers: 16, embedding: 2048, heads: 32, kvHeads: 8, key: 64, value: 64, vocabulary: 65536, memory: gguf.Memory{ShortKernel: 3}}, 2, "shortconv.conv.weight"),
			Run{CtxSize: 8192, GPULayers: 99},
			0, 0.5 + 128,
		},
		"an encoder": {
			transformer{arch: "nomic-bert", layers: 12, embedding: 768, heads: 12, kvHeads: 12, network: 3072, vocabulary: 30522}.header(),
			Run{CtxSize: 2048, GPULayers: 99},
			0, 0,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Estimate(tt.header, tt.run)
			if mebibytes := float64(got.Weights) / mib; tt.weights > 0 && math.Abs(mebibytes-tt.weights) > 0.011 {
				t.Errorf("weights are %.2f MiB, want %.2f", mebibytes, tt.weights)
			}
			if got.KV != uint64(tt.kv*mib) {
				t.Errorf("KV is %.3f MiB, want %.3f", float64(got.KV)/mib, tt.kv)
			}
			if got.UncertainBecause != "" {
				t.Errorf("uncertain: %s", got.UncertainBecause)
			}
		})
	}
}

// TestQwen14B is the sum for the model that llmsup is made for.
func TestQwen14B(t *testing.T) {
	got := Estimate(qwen14B.header(), Run{CtxSize: 8192, GPULayers: 99})
	// The mask and the widest layer of 512 tokens, 139 MiB, and the driver's 256. Build 11669 prints 129 with
	// Vulkan, and 139 with the CPU, where it has the embedding too.
	if got.Compute != 395*mib {
		t.Errorf("compute is %d MiB, want 395", got.Compute/mib)
	}
	if want := "8.0 GiB weights + 1.5 GiB KV cache + 0.4 GiB buffers = 9.8 GiB"; got.String() != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestOutput checks that the output counts for one token of each slot, as llama.cpp plans it since June 2026.
func TestOutput(t *testing.T) {
	m := qwen3B
	m.network = 256
	for slots, args := range map[uint64][]string{4: nil, 64: {"-np", "64", "-kvu"}} {
		want := Driver + 512*(2*4096+4*5*2048) + slots*(151936+2048)*4
		if got := Estimate(m.header(), Run{CtxSize: 4096, GPULayers: 99, Args: args}).Compute; got != want {
			t.Errorf("%d slots: %d, want %d", slots, got, want)
		}
	}
}

// TestOffload takes Qwen 2.5 14B apart: 417.66 MiB of embedding are not in VRAM,
// and the output comes before the last layer.
func TestOffload(t *testing.T) {
	header := qwen14B.header()
	w := header.Weights()
	all := header.TensorBytes - w.Embedding
	tests := map[string]struct {
		layers      int
		weights, kv uint64
	}{
		"none":               {0, 0, 0},
		"the output":         {1, w.Output, 0},
		"one layer":          {2, w.Output + w.Layers[47], 32 * mib},
		"all but one":        {48, all - w.Layers[0], 47 * 32 * mib},
		"all":                {49, all, 1536 * mib},
		"more than all":      {1000, all, 1536 * mib},
		"the largest number": {math.MaxInt, all, 1536 * mib},
		"all, by -1":         {-1, all, 1536 * mib},
		"the lowest number":  {math.MinInt, all, 1536 * mib},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Estimate(header, Run{CtxSize: 8192, GPULayers: tt.layers})
			if got.Weights != tt.weights || got.KV != tt.kv {
				t.Errorf("weights %d, KV %d, want %d and %d", got.Weights, got.KV, tt.weights, tt.kv)
			}
			if none := tt.layers == 0; none != (got == Need{}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A tied embedding is in the CPU's memory for looking up and in VRAM as output.
func TestInputAndOutput(t *testing.T) {
	header := gemma12B.header()
	perLayer := tensor("per_layer_token_embd.weight", "Q8_0", 256*48, 262208)
	header.Tensors = append(header.Tensors, perLayer)
	header.TensorBytes += perLayer.Bytes
	if got := Estimate(header, Run{CtxSize: 8192, GPULayers: 99}); got.Weights != header.TensorBytes-perLayer.Bytes {
		t.Errorf("weights are %d, want all %d without the layers' embeddings", got.Weights, header.TensorBytes-perLayer.Bytes)
	}
	bert := transformer{arch: "bert", layers: 12, embedding: 768, heads: 12, kvHeads: 12, network: 3072, vocabulary: 30522, tied: true}.header()
	if got := Estimate(bert, Run{CtxSize: 512, GPULayers: 99}); got.Weights != bert.TensorBytes-bert.Weights().Embedding {
		t.Errorf("an encoder's weights are %d, and it has no output", got.Weights)
	}
}

func TestDraftLayers(t *testing.T) {
	m := llama8B
	m.memory.DraftLayers = 1
	header := m.header()
	last := header.Weights().Layers[31]
	without := Estimate(header, Run{CtxSize: 8192, GPULayers: 99})
	with := Estimate(header, Run{CtxSize: 8192, GPULayers: 99, Args: []string{"--spec-type", "draft-mtp"}})
	if with.Weights-without.Weights != last || with.UncertainBecause == "" {
		t.Errorf("the layer that guesses ahead takes %d, want %d; uncertain: %q", with.Weights-without.Weights, last, with.UncertainBecause)
	}
}

func TestString(t *testing.T) {
	tests := map[string]struct {
		need Need
		want string
	}{
		"nothing": {Need{}, "no VRAM"},
		"small":   {Need{Weights: 3 * mib, KV: 16 * mib, Compute: 261 * mib}, "3 MiB weights + 16 MiB KV cache + 261 MiB buffers = 280 MiB"},
		"large":   {Need{Weights: 18 << 30, KV: 3 << 29, Compute: 1 << 29}, "18.0 GiB weights + 1.5 GiB KV cache + 0.5 GiB buffers = 20.0 GiB"},
		"absurd":  {Need{Weights: math.MaxUint64, KV: 1, Compute: 1}, "17179869184.0 GiB weights + 0.0 GiB KV cache + 0.0 GiB buffers = 17179869184.0 GiB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.need.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Headers come from the internet. What gguf lets pass must not overflow into a
// small number, nor take long.
func TestHostile(t *testing.T) {
	huge := transformer{layers: 4096}
	widen := func(arch string, memory gguf.Memory) *gguf.Header {
		var tensors []gguf.Tensor
		for i := range huge.layers {
			layer := "blk." + strconv.Itoa(int(i))
			tensors = append(tensors, tensor(layer+".attn_k.weight", "F32", 1<<38), tensor(layer+".ssm_in.weight", "F32", 1<<38))
		}
		h := huge.fill(tensors)
		h.Architecture, h.Memory = arch, memory
		h.Heads, h.KeyLength, h.ValueLength, h.Embedding, h.Vocabulary = math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32
		h.KVHeads = slices.Repeat([]uint32{math.MaxUint32}, int(h.Layers))
		return h
	}
	const most = math.MaxUint32
	memory := gguf.Memory{
		Window: most, WindowPeriod: most, WindowKeyLength: most, WindowValueLength: most, SharedLayers: 0, DraftLayers: most,
		StateKernel: most, StateInner: most, StateSize: most, StateGroups: most,
	}
	wkv, delta, short := memory, memory, memory
	wkv.WKVHead, wkv.TokenShifts, delta.DeltaHead, short.ShortKernel = most, most, most, most
	for name, h := range map[string]*gguf.Header{
		"keys and values": widen("llama", gguf.Memory{}), "windows": widen("gemma3", memory), "states": widen("mamba", memory),
		"RWKV": widen("rwkv7", wkv), "delta": widen("kimi-linear", delta), "short": widen("lfm2", short),
	} {
		t.Run(name, func(t *testing.T) {
			got := Estimate(h, Run{CtxSize: math.MaxInt, GPULayers: math.MaxInt, Args: []string{"-ub", "2147483647", "-b", "2147483647", "-np", "256", "-ctk", "q8_0"}})
			if got.KV != math.MaxUint64 || got.Total() != math.MaxUint64 {
				t.Errorf("got %+v, want the largest number", got)
			}
		})
	}
	for name, h := range map[string]*gguf.Header{
		"nothing": {}, "no lists": {Layers: 4096, Heads: 1, KeyLength: 1},
		"no dimensions":                  {Layers: 1, Tensors: []gguf.Tensor{{Name: "blk.0.ffn_up.weight"}}},
		"more shared layers than layers": {Layers: 1, KVHeads: []uint32{1}, Memory: gguf.Memory{SharedLayers: 2, WindowLayers: []bool{true, true}, Window: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Estimate(h, Run{CtxSize: -1, GPULayers: 99}); got.Total() > 1<<30 {
				t.Errorf("got %+v", got)
			}
		})
	}
}
