package vram

import (
	"strconv"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// TestLargestContext: with the result the model fits, and with the next larger context it does not.
func TestLargestContext(t *testing.T) {
	headers := map[string]*gguf.Header{
		"qwen2": qwen14B.header(), "gemma3, windows": gemma12B.header(), "deepseek2, latent": deepseekLite.header(), "gpt-oss": gptOSS.header(),
		"mamba": recurrent(transformer{arch: "mamba", layers: 64, embedding: 2560, heads: 1, vocabulary: 50280, context: 1 << 20, memory: gguf.Memory{StateKernel: 4, StateInner: 5120, StateSize: 16}}, 0, "ssm_in.weight"),
	}
	for name, h := range headers {
		for _, args := range []string{"", "-np 4", "-np 1 -ub 64", "-ctk q8_0 -ctv q8_0", "-fa off"} {
			r := Run{GPULayers: 99, Args: strings.Fields(args)}
			most := int(h.Context)
			if !SharedContext(r.Args) && args == "-np 4" {
				most *= 4
			}
			for gib := uint64(0); gib < 40; gib += 3 {
				fits := func(n Need) bool { return n.Total() <= gib<<30 }
				at := func(ctx int) bool { r.CtxSize = ctx; return fits(Estimate(h, r)) }
				got := New(h).LargestContext(r, fits)
				switch {
				case got < 0 || got > most:
					t.Fatalf("%s %s in %d GiB: %d tokens of %d", name, args, gib, got, most)
				case got > 0 && !at(got):
					t.Errorf("%s %s in %d GiB: %d tokens do not fit", name, args, gib, got)
				case got < most && at(got+contextStep):
					t.Errorf("%s %s in %d GiB: %d tokens, and more fit", name, args, gib, got)
				}
			}
		}
	}
}

func TestLargestContextLimits(t *testing.T) {
	unlimited := func(Need) bool { return true }
	small := llama8B
	small.context = 300
	unknown := llama8B
	unknown.context = 0
	for name, tt := range map[string]struct {
		header *gguf.Header
		run    Run
		fits   func(Need) bool
		want   int
	}{
		"the trained one":                {llama8B.header(), Run{GPULayers: 99}, unlimited, 131072},
		"the trained one for each slot":  {llama8B.header(), Run{GPULayers: 99, Args: []string{"-np", "3"}}, unlimited, 3 * 131072},
		"the trained one, an odd number": {small.header(), Run{GPULayers: 99}, unlimited, 300},
		"not even the weights fit":       {llama8B.header(), Run{GPULayers: 99}, func(Need) bool { return false }, 0},
		"nothing on the GPU":             {llama8B.header(), Run{}, func(n Need) bool { return n.Total() == 0 }, 131072},
		"the trained one is unknown":     {unknown.header(), Run{GPULayers: 99}, unlimited, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := New(tt.header).LargestContext(tt.run, tt.fits); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

// TestMostLayers: with the result the model fits, and with one layer more it does not.
func TestMostLayers(t *testing.T) {
	for name, h := range map[string]*gguf.Header{"qwen2": qwen14B.header(), "qwen3moe": qwenMoE.header(), "gemma3": gemma12B.header()} {
		r := Run{CtxSize: 8192}
		all := int(h.Layers) + 1
		for gib := range uint64(24) {
			fits := func(n Need) bool { return n.Total() <= gib<<30 }
			at := func(layers int) bool { r.GPULayers = layers; return fits(Estimate(h, r)) }
			got := New(h).MostLayers(r, fits)
			if got < 0 || got > all || got > 0 && !at(got) || got < all && at(got+1) {
				t.Errorf("%s in %d GiB: %d of %d layers", name, gib, got, all)
			}
		}
		if got := New(h).MostLayers(r, func(Need) bool { return true }); got != all {
			t.Errorf("%s: %d layers, want all %d", name, got, all)
		}
	}
}

// TestUnknownArchitecture: the sum of a model that llmsup does not know is not passed off as certain.
func TestUnknownArchitecture(t *testing.T) {
	m := llama8B
	m.arch = "llama9"
	if got := Estimate(m.header(), Run{CtxSize: 8192, GPULayers: 99}); !strings.Contains(got.UncertainBecause, "llama9") {
		t.Errorf("uncertain: %q", got.UncertainBecause)
	}
	for _, table := range []map[string]bool{withoutCache, specialCaches} {
		for arch := range table {
			if !architectures[arch] {
				t.Errorf("%s is not among the architectures", arch)
			}
		}
	}
	for arch := range windowed {
		if !architectures[arch] {
			t.Errorf("%s is not among the architectures", arch)
		}
	}
}

// TestFewestCPUExperts: with the result the model fits, and with the experts of one layer less it
// does not.
func TestFewestCPUExperts(t *testing.T) {
	m, r := New(qwenMoE.header()), Run{CtxSize: 8192, GPULayers: 99}
	found := 0
	for gib := range uint64(24) {
		fits := func(n Need) bool { return n.Total() <= gib<<30 }
		at := func(layers int) bool {
			with := r
			with.Args = []string{"--n-cpu-moe", strconv.Itoa(layers)}
			return fits(m.Estimate(with))
		}
		got, ok := m.FewestCPUExperts(r, fits)
		switch {
		case ok != at(48):
			t.Errorf("%d GiB: %t", gib, ok)
		case ok && (!at(got) || got > 0 && at(got-1)):
			t.Errorf("%d GiB: %d layers", gib, got)
		case ok && got > 0:
			found++
		}
	}
	if found == 0 {
		t.Error("no size needs some experts in the CPU's memory")
	}
	if _, ok := New(qwen14B.header()).FewestCPUExperts(r, func(Need) bool { return true }); ok {
		t.Error("a dense model has no experts")
	}
}
