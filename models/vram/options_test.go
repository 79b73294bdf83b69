package vram

import (
	"math"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// TestFlags checks what each flag changes. The values are derived by hand from
// those without flags.
func TestFlags(t *testing.T) {
	const ctx = 8192
	qwen, moe, gemma := qwen14B.header(), qwenMoE.header(), gemma12B.header()
	base := func(h *gguf.Header) Need { return Estimate(h, Run{CtxSize: ctx, GPULayers: 99}) }
	experts := moe.Weights().Experts
	var all uint64
	for _, bytes := range experts {
		all += bytes
	}
	kv := func(mebibytes float64) func(*Need) { return func(n *Need) { n.KV = uint64(mebibytes * mib) } }
	// The driver, and of so many tokens the mask of so many cells and the widest layer of Qwen 2.5 14B.
	computed := func(tokens, cells uint64) func(*Need) {
		return func(n *Need) { n.Compute = 256*mib + tokens*(2*cells+4*(3*13824+5*5120)) }
	}
	tokens := func(n uint64) func(*Need) { return computed(n, ctx) }
	// The windows of Gemma 3 12B have so many cells instead of 4608, in 40 layers of 4096 elements.
	windows := func(cells uint64) func(*Need) {
		return func(n *Need) { n.KV, n.Compute = 512*mib+40*cells*4096*2, n.Compute+512*2*(cells-4608) }
	}
	unsure := func(reason string) func(*Need) { return func(n *Need) { n.UncertainBecause = reason } }
	less := func(reason string) func(*Need) {
		return func(n *Need) { n.UncertainBecause, n.Overestimated = reason, true }
	}
	// A cache type also takes room for one layer's keys and values in F16, of 1024
	// elements each: 16 MiB.
	typed := func(mebibytes, scratch float64) func(*Need) {
		return func(n *Need) { n.KV, n.Compute = uint64(mebibytes*mib), n.Compute+uint64(scratch*mib) }
	}
	// The largest of the experts' tensors is copied over: a Q6_K one here.
	const copied = 768 * 2048 * 128 / 256 * 210

	tests := map[string]struct {
		header *gguf.Header
		args   string
		want   func(n *Need) // what differs from no flags
	}{
		"K as q8_0":             {qwen, "-ctk q8_0", typed(768+408, 16)},
		"both as q8_0":          {qwen, "--cache-type-k q8_0 --cache-type-v q8_0", typed(816, 32)},
		"both as q4_0":          {qwen, "-ctk q4_0 -ctv q4_0", typed(432, 32)},
		"both as iq4_nl":        {qwen, "-ctk iq4_nl -ctv iq4_nl", typed(432, 32)},
		"K q4_1, V q5_0":        {qwen, "-ctk q4_1 -ctv q5_0", typed(240+264, 32)},
		"K q5_1, V bf16":        {qwen, "-ctk q5_1 -ctv bf16", typed(288+768, 16)},
		"K as f32":              {qwen, "-ctk f32", typed(1536+768, 16)},
		"underscores":           {qwen, "--cache_type_v q8_0", typed(768+408, 16)},
		"the last one wins":     {qwen, "-ctk q8_0 -ctk q4_0 --cache-type-k f16", nil},
		"a type that is none":   {qwen, "-ctk q8_0 -ctk Q2_K -ctv Q8_0", typed(768+408, 16)},
		"with an equals sign":   {qwen, "--cache-type-k=q8_0 -nkvo=1", nil}, // llama-server refuses it
		"without its value":     {qwen, "-ctk", nil},
		"a flag as a value":     {qwen, "-ctk -nkvo", nil},
		"cache in RAM":          {qwen, "-nkvo", kv(0)},
		"cache in RAM, long":    {qwen, "--no-kv-offload", kv(0)},
		"cache in RAM, but not": {qwen, "-nkvo --kv-offload", nil},
		"no device":             {qwen, "--device none", func(n *Need) { *n = Need{} }},
		"no device, short":      {qwen, "-dev none", func(n *Need) { *n = Need{} }},
		"some device":           {qwen, "-dev none -dev CUDA0", nil},

		"a larger micro-batch":         {qwen, "-ub 1024", tokens(1024)},
		"a smaller one":                {qwen, "--ubatch-size 128", tokens(128)},
		"one larger than the batch":    {qwen, "--ubatch-size 4096", tokens(2048)},
		"a batch below it":             {qwen, "-b 256", tokens(256)},
		"as large as the batch":        {qwen, "-ub 0", tokens(2048)},
		"a number and more":            {qwen, "-ub 128x", tokens(128)},
		"a negative one":               {qwen, "-ub -5", nil},
		"no number":                    {qwen, "-ub lots", nil},
		"a number of 30 digits":        {qwen, "-ub 999999999999999999999999999999", nil},
		"a number that is too long":    {qwen, "-b 4294967296", nil},
		"flash attention, by its name": {qwen, "-fa on", nil},
		"flash attention, left open":   {qwen, "--flash-attn auto", nil},
		// 40 heads, the mask, and 5 x 5120, of 512 tokens.
		"no flash attention": {qwen, "-fa off", func(n *Need) { n.Compute = 256*mib + 512*4*(40*ctx+ctx+5*5120) }},

		// 8192/3 is rounded up to 2816.
		"slots apart": {qwen, "-np 3", func(n *Need) {
			kv(1584)(n)
			computed(512, 2816)(n)
		}},
		"slots apart, of one cache": {qwen, "-np 3 -kvu", nil},
		"four slots, apart":         {qwen, "--parallel 4", computed(512, 2048)},
		"four slots by default":     {qwen, "-np 3 -np -1", nil},
		"apart by a flag": {gemma, "-np 4 -kvu --no-kv-unified", func(n *Need) {
			n.KV, n.Compute = (512+4*480)*mib, n.Compute-512*2*(ctx+4608-2048-1536)
		}},
		"one cache all the same": {gemma, "--no-kv-unified", nil},
		"more slots, one cache":  {gemma, "-np 8 --kv-unified", windows(ctx)},
		"windows for a large batch": {gemma, "-ub 1024 -np 1", func(n *Need) {
			n.KV, n.Compute = (512+640)*mib, 256*mib+1024*(2*(ctx+2048)+4*(3*15360+5*3840))
		}},
		"windows of all tokens": {gemma, "--swa_full", windows(ctx)},

		"no experts":              {moe, "-cmoe", func(n *Need) { n.Weights, n.Compute = n.Weights-all, n.Compute+copied }},
		"no experts, and no copy": {moe, "--cpu-moe --no-op-offload", func(n *Need) { n.Weights -= all }},
		"experts of two layers out": {moe, "-ncmoe 2", func(n *Need) {
			n.Weights, n.Compute = n.Weights-experts[0]-experts[1], n.Compute+copied
		}},
		"the sum of two flags": {moe, "--n-cpu-moe 2 --n-cpu-moe 1", func(n *Need) {
			n.Weights, n.Compute = n.Weights-experts[0]-experts[1], n.Compute+copied
		}},
		"more than all layers":     {moe, "-ncmoe 99", func(n *Need) { n.Weights, n.Compute = n.Weights-all, n.Compute+copied }},
		"experts of a dense model": {qwen, "-cmoe", nil},

		"tensors":             {qwen, "-ot exps=CPU", less("--override-tensor moves tensors")},
		"a draft model":       {qwen, "--model_draft d.gguf", unsure("--model-draft loads a second model")},
		"a draft model, new":  {qwen, "--spec-draft-model d.gguf", unsure("--model-draft loads a second model")},
		"a draft of its own":  {qwen, "--spec-type draft-mtp", unsure("--spec-type makes a second cache")},
		"no draft model":      {qwen, "--spec-type ngram-mod", nil},
		"a projector":         {qwen, "-mm p.gguf", unsure("--mmproj loads a projector")},
		"a projector, in RAM": {qwen, "--mmproj p.gguf --no-mmproj-offload", nil},
		"an adapter":          {qwen, "--lora-scaled a.gguf:2", unsure("--lora loads an adapter")},
		"other machines":      {qwen, "--rpc 10.0.0.1:50052", less("--rpc moves layers to other machines")},
		"rows":                {qwen, "-sm row", unsure("--split-mode spreads every tensor over several GPUs")},
		"rows, but not":       {qwen, "-sm row -sm layer", nil},
		"proportions":         {qwen, "-ts 3,1", unsure("--tensor-split spreads the model over several GPUs")},
		"two devices":         {qwen, "-dev CUDA0,CUDA1", unsure("--device spreads the model over several GPUs")},
		"two reasons":         {qwen, "-ot a=CPU --lora a.gguf", less("--lora loads an adapter")},
		"other metadata":      {qwen, "--override-kv a=int:1", less("--override-kv changes the model's metadata")},
		"of no interest":      {qwen, "--jinja -t 8 --temp 0.5 --fit-target 512", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := base(tt.header)
			if tt.want != nil {
				tt.want(&want)
			}
			got := Estimate(tt.header, Run{CtxSize: ctx, GPULayers: 99, Args: strings.Fields(tt.args)})
			if got != want {
				t.Errorf("%s\ngot  %+v\nwant %+v", tt.args, got, want)
			}
		})
	}
}

func TestContext(t *testing.T) {
	header := qwen14B.header()
	header.Context = 1000
	tests := map[string]struct {
		ctx    int
		args   []string
		kv     float64 // MiB
		unsure bool
	}{
		"a multiple of 256":   {512, nil, 96, false},
		"rounded up":          {513, nil, 144, false},
		"one token":           {1, nil, 48, false},
		"the model's own":     {0, nil, 192, true},
		"kept as it is":       {0, []string{"--fit", "off"}, 192, false},
		"less than the slots": {2, []string{"-np", "4"}, 192, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Estimate(header, Run{CtxSize: tt.ctx, GPULayers: 99, Args: tt.args})
			if got.KV != uint64(tt.kv*mib) || (got.UncertainBecause != "") != tt.unsure {
				t.Errorf("KV is %.2f MiB, want %.2f; uncertain: %q", float64(got.KV)/mib, tt.kv, got.UncertainBecause)
			}
		})
	}
}

// TestSpecialCaches checks that these are estimated and marked as uncertain.
func TestSpecialCaches(t *testing.T) {
	m := deepseekLite
	m.arch = "deepseek32"
	if got := Estimate(m.header(), Run{CtxSize: 8192, GPULayers: 99}); got.KV == 0 || got.UncertainBecause == "" {
		t.Errorf("got %+v", got)
	}
}

// FuzzArgs feeds a command line of arguments separated by blanks.
func FuzzArgs(f *testing.F) {
	for _, f1 := range flags {
		f.Add(f1.names)
		f.Add(strings.ReplaceAll(f1.names, " ", " 7 ") + " q8_0")
	}
	f.Add("-np -1 -ub 0 -b 0 -ctk f32 -fa off -ncmoe 4294967295 --parallel 999999999")
	headers := []*gguf.Header{llama8B.header(), gemma12B.header(), qwenMoE.header()}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		o := parseArgs(args)
		if o.slots < 1 || o.slots > maxSlots || o.typeK.elements == 0 || o.typeV.elements == 0 {
			t.Errorf("%q gives %+v", line, o)
		}
		for _, h := range headers {
			need := Estimate(h, Run{CtxSize: 8192, GPULayers: 99, Args: args})
			// The whole model, each slot with 256 tokens at least, and four bytes an element.
			if need.Weights > 2*h.TensorBytes || need.KV > 4<<40 || need.Total() == math.MaxUint64 {
				t.Errorf("%q gives %+v", line, need)
			}
			if (need == Need{}) != o.noDevice {
				t.Errorf("%q gives %+v, no device: %v", line, need, o.noDevice)
			}
		}
	})
}
