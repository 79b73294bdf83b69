// Package vram estimates how much VRAM a llama-server will need for a model, from the
// model's GGUF header and llama-server's flags.
//
// cmd/internal/placement uses it to decide whether a model fits, and package gpu to check
// afterwards whether the weights are in VRAM, since llama-server falls back to the CPU
// without an error. `llmsup check` and `llmsup status` show the sum.
//
// Weights and KV follow llama.cpp's own allocations, but for the padding of
// buffers (src/llama-model.cpp load_tensors and create_memory,
// src/llama-kv-cache.cpp, src/llama-kv-cache-iswa.cpp, src/llama-memory-recurrent.cpp,
// as of August 2026). Compute is an approximation; models/README.md compares all of
// them with llama-server's figures. The package does no I/O and trusts no header: sums that
// would overflow stop at the largest number.
package vram

import (
	"fmt"

	"github.com/llmsup/llmsup/models/gguf"
)

// Run describes how llama-server will run the model.
type Run struct {
	CtxSize   int      // --ctx-size: tokens, for all slots together; 0 = the model's trained context
	GPULayers int      // --n-gpu-layers: the output counts as one; negative = all
	Args      []string // the user's further flags, as on llama-server's command line
	Variable  string   // an environment variable that changes the need by an unknown amount, as EnvironmentSetting returns it; "" = none
}

// Need is the VRAM that a run will take, in bytes. With several GPUs it is the sum over all
// of them, but each needs Compute.
type Need struct {
	Weights          uint64 // of the offloaded layers and, where it is offloaded, the output
	KV               uint64 // the cache of keys and values, and the states of recurrent layers, of the offloaded layers
	Compute          uint64 // buffers for computing, and the driver's context
	UncertainBecause string // why the estimate may be far off, as in "--override-tensor moves tensors"; "" = it is certain
	Overestimated    bool   // the need may be far lower, and Weights too; else what is uncertain comes on top
}

// Estimate returns what llama-server will take of VRAM for a run.
//
// Without offloaded layers that is nothing. A CUDA build still creates its context then,
// and computes long prompts on the GPU, unless the GPU is hidden from it (`--gpu none`).
func Estimate(h *gguf.Header, r Run) Need { return New(h).Estimate(r) }

// Estimate returns what the function of this name returns for the model's header.
func (m *Model) Estimate(r Run) Need {
	run, ok := m.run(r)
	if !ok {
		return Need{}
	}
	return run.need(r.CtxSize)
}

// need returns the estimate for a --ctx-size.
func (m *model) need(ctx int) Need {
	m.setContext(ctx)
	n := Need{Weights: m.inVRAM, Compute: m.compute(), UncertainBecause: m.uncertainBecause, Overestimated: m.overestimated}
	if !m.noKVOffload {
		n.KV = m.cache()
	}
	if n.UncertainBecause == "" {
		n.UncertainBecause = m.uncertainty(ctx)
	}
	if m.variable != "" {
		n.UncertainBecause, n.Overestimated = m.variable+" is set", true
	}
	n.Overestimated = n.Overestimated || ctx <= 0 && !m.fitOff
	return n
}

// uncertainty returns what makes the estimate uncertain for this model, whatever the flags.
func (m *model) uncertainty(ctx int) string {
	switch {
	case !architectures[m.Architecture]:
		return fmt.Sprintf("llmsup does not know the architecture %s, and assumes that it has an ordinary cache", m.Architecture)
	case specialCaches[m.Architecture]:
		return fmt.Sprintf("llama.cpp has a cache of its own for the architecture %s", m.Architecture)
	case ctx <= 0 && !m.fitOff:
		return "llama-server may shrink a context that is not given (--fit)"
	}
	return ""
}

// Total returns the sum in bytes.
func (n Need) Total() uint64 { return add(n.Weights, n.KV, n.Compute) }

// Split returns the need on a number of GPUs together. Each GPU has its own buffers.
func (n Need) Split(gpus int) Need {
	n.Compute = mul(n.Compute, uint64(max(gpus, 1)))
	return n
}

// String returns the sum for people, such as
// "8.0 GiB weights + 1.5 GiB KV cache + 0.5 GiB buffers = 10.0 GiB", all in one unit. It
// leaves out what is uncertain.
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
