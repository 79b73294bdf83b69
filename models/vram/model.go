package vram

import (
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models/gguf"
)

// model is a header and how llama-server will run it.
type model struct {
	*gguf.Header
	options

	first         uint32 // the first offloaded layer; Layers = the output alone
	ctx           uint64 // tokens of one stream
	batch         uint64 // tokens computed at once
	parts         []part // by layer
	largestCopied uint64 // bytes of the largest weight in the CPU's memory
	inVRAM        uint64 // bytes of the weights in VRAM
}

// part is what a layer is made of, by its tensors' names.
type part struct {
	state   bool // it keeps a state (Mamba, RWKV, LFM2's short convolutions, delta nets)
	keys    bool // it projects keys of its own
	dense   network
	experts network // one of them
}

// network is the width of a feed-forward network, in elements of one token.
type network struct {
	made uint64 // by the gate and the projection up
	read uint64 // by the projection down
}

// numbers returns how many are kept at once. An activation without a gate overwrites
// what it is computed of; one with a gate needs room for its result.
func (n network) numbers() uint64 {
	if n.made <= n.read {
		return n.made
	}
	return add(n.made, n.read)
}

// add takes one tensor into account; name is without the layer's prefix.
func (n *network) add(name string, t *gguf.Tensor) {
	switch {
	case strings.HasPrefix(name, "ffn_gate_inp"), !strings.HasSuffix(name, ".weight"): // the experts' router, and biases
	case strings.HasPrefix(name, "ffn_up"), strings.HasPrefix(name, "ffn_gate"):
		n.made = add(n.made, t.Dims[1])
	case strings.HasPrefix(name, "ffn_down"):
		n.read = add(n.read, t.Dims[0])
	}
}

// stateTensors are the prefixes of tensors that only recurrent layers have
// (src/llama-arch.cpp).
var stateTensors = []string{"ssm_", "time_mix_", "shortconv."}

// newModel returns a model as llama-server will run it with some offloaded layers; ok is false
// if it needs no VRAM. Its context is not set.
func newModel(h *gguf.Header, r Run) (m *model, ok bool) {
	m = &model{Header: h, options: parseArgs(r.Args)}
	// The output counts as a layer and is offloaded first (load_tensors). Builds from
	// before December 2025 offload it last.
	layers := min(uint64(max(r.GPULayers, 0)), uint64(h.Layers)+1)
	if r.GPULayers < 0 {
		layers = uint64(h.Layers) + 1
	}
	m.first = uint32(uint64(h.Layers) + 1 - layers)
	if layers == 0 || m.noDevice {
		return m, false
	}
	m.parts = make([]part, m.Layers)
	for i := range m.Tensors {
		m.inspect(&m.Tensors[i])
	}
	m.inVRAM = m.weights()
	return m, true
}

// setContext sets what depends on --ctx-size.
func (m *model) setContext(ctx int) {
	tokens := uint64(max(ctx, 0))
	if tokens == 0 {
		tokens = uint64(m.Context)
	}
	// A batch is never larger than the context, nor a micro-batch than a batch.
	m.batch = min(m.ubatch, m.options.batch, max(tokens, 1))
	// llama.cpp rounds the context up to a multiple of 256; if each slot has its own
	// context, that one (llama_context's constructor).
	m.ctx = pad(tokens)
	if !m.unified {
		m.ctx = max(pad(m.ctx/m.slots), 256)
	}
}

// inspect notes what one tensor shows of its layer.
func (m *model) inspect(t *gguf.Tensor) {
	layer, inLayer := t.Layer(m.Layers)
	if !inLayer {
		return
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(t.Name, "blk."), ".")
	p := &m.parts[layer]
	p.state = p.state || slices.ContainsFunc(stateTensors, func(start string) bool { return strings.HasPrefix(name, start) })
	p.keys = p.keys || name == "attn_k.weight"
	if len(t.Dims) < 2 || m.skipped(layer, true) {
		return
	}
	if t.Expert() {
		p.experts.add(name, t)
	} else {
		p.dense.add(name, t)
	}
	if layer < m.first || m.expertsOnCPU(layer) && t.Expert() {
		m.largestCopied = max(m.largestCopied, t.Bytes)
	}
}

// skipped reports whether a layer is not loaded: one that only predicts further tokens,
// unless a flag enables that.
func (m *model) skipped(layer uint32, inLayer bool) bool {
	return inLayer && !m.loadsDraftLayers && uint64(layer)+uint64(m.Memory.DraftLayers) >= uint64(m.Layers)
}

// expertsOnCPU reports whether a layer's experts are kept in the CPU's memory.
func (m *model) expertsOnCPU(layer uint32) bool { return uint64(layer) < m.cpuExperts }

// encoder reports whether the model only computes embeddings.
func (m *model) encoder() bool { return strings.Contains(m.Architecture, "bert") }

// weights returns the bytes of the model's weights that go to VRAM.
//
// The embedding and the rest of the input stay in the CPU's memory, where llama.cpp looks
// tokens up. If the embedding is also the output, the VRAM has a copy of it.
func (m *model) weights() uint64 {
	w := m.Weights()
	sum := w.Output
	if w.Tied && !m.encoder() {
		sum = add(sum, w.Embedding)
	}
	for layer := m.first; layer < m.Layers; layer++ {
		switch {
		case m.skipped(layer, true):
		case m.expertsOnCPU(layer):
			sum = add(sum, w.Layers[layer]-w.Experts[layer])
		default:
			sum = add(sum, w.Layers[layer])
		}
	}
	return sum
}
