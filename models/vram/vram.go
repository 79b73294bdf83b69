// Package vram says how much VRAM a llama-server takes to run a model, from the
// model's GGUF header and llama-server's flags, before it is started.
//
// cmd calls it: to warn of a model that does not fit into what is free, to show
// the sum in `llmsup check` and `llmsup status`, and to tell afterwards whether
// the weights really are in VRAM, as llama-server falls back to the CPU without
// an error.
//
// Weights and KV follow llama.cpp's own allocations, but for the padding of
// buffers (src/llama-model.cpp load_tensors and create_memory,
// src/llama-kv-cache.cpp, src/llama-kv-cache-iswa.cpp, src/llama-memory-recurrent.cpp,
// as of August 2026). Compute is a rule of thumb. The package does no I/O, and
// trusts nothing in a header: sums that would overflow stop at the largest number.
package vram

import (
	"fmt"

	"github.com/llmsup/llmsup/models/gguf"
)

// Run is how llama-server will be run on the model.
type Run struct {
	CtxSize   int      // --ctx-size: tokens, for all slots together; 0 = what the model was trained for
	GPULayers int      // --n-gpu-layers: the output counts as one; negative = all
	Args      []string // the user's further flags, as they stand on llama-server's command line
}

// Need is what a run will take of VRAM, in bytes. On several GPUs it is the sum
// over all of them, and Compute is needed on each.
type Need struct {
	Weights uint64 // of the offloaded layers and, where it is offloaded, the output
	KV      uint64 // the cache of keys and values, and the states of recurrent layers, of the offloaded layers
	Compute uint64 // buffers for computing, and the driver's context
	Unsure  string // why the estimate may be far off, as in "--override-tensor moves tensors"; "" = it is not
	Less    bool   // it may be far less, and Weights too; else what is unsure comes on top
}

// Estimate returns what llama-server will take of VRAM for a run.
//
// Without offloaded layers that is nothing. A build with CUDA still makes its
// context then, and computes long prompts on the GPU; whoever wants none of it
// hides the GPU from it (`--gpu none`).
func Estimate(h *gguf.Header, r Run) Need {
	o := parseArgs(r.Args)
	// The output counts as one, and is the first to be offloaded (load_tensors).
	// To builds from before December 2025 it was the last.
	layers := min(uint64(max(r.GPULayers, 0)), uint64(h.Layers)+1)
	if r.GPULayers < 0 {
		layers = uint64(h.Layers) + 1
	}
	if layers == 0 || o.noDevice {
		return Need{}
	}
	first := uint32(uint64(h.Layers) + 1 - layers)
	m := model{Header: h, options: o, first: first}
	m.shape(r.CtxSize)
	n := Need{Weights: m.weights(), Compute: m.compute(), Unsure: o.unsure, Less: o.less}
	if !o.noKVOffload {
		n.KV = m.cache()
	}
	if n.Unsure == "" {
		n.Unsure = m.doubt(r.CtxSize)
	}
	n.Less = n.Less || r.CtxSize <= 0 && !m.fitOff
	return n
}

// doubt says what of the model itself keeps the estimate from being sure.
func (m *model) doubt(ctx int) string {
	switch {
	case ownCaches[m.Architecture]:
		return fmt.Sprintf("llama.cpp has a cache of its own for the architecture %s", m.Architecture)
	case ctx <= 0 && !m.fitOff:
		return "llama-server may shrink a context that is not given (--fit)"
	}
	return ""
}

// Total is the sum of it all, in bytes.
func (n Need) Total() uint64 { return add(n.Weights, n.KV, n.Compute) }

// String is the sum for a person, such as
// "8.0 GiB weights + 1.5 GiB KV cache + 0.5 GiB buffers = 10.0 GiB". It does not
// say what is unsure.
func (n Need) String() string {
	total := n.Total()
	if total == 0 {
		return "no VRAM"
	}
	unit, name, digits := float64(1<<30), "GiB", 1
	if total < 1<<30 {
		unit, name, digits = 1<<20, "MiB", 0
	}
	show := func(bytes uint64) string { return fmt.Sprintf("%.*f %s", digits, float64(bytes)/unit, name) }
	return fmt.Sprintf("%s weights + %s KV cache + %s buffers = %s", show(n.Weights), show(n.KV), show(n.Compute), show(total))
}
