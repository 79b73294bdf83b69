package vram

import (
	"strings"

	"github.com/llmsup/llmsup/models/gguf"
)

// model is a header together with how it will be run.
type model struct {
	*gguf.Header
	options

	first  uint32 // the first offloaded layer; Layers = the output alone
	ctx    uint64 // tokens of one stream
	batch  uint64 // tokens computed at once
	parts  []part // by layer
	widest uint64 // elements that a feed-forward network makes of one token
	moved  uint64 // bytes of the largest weight that stays in the CPU's memory
}

// part is what a layer is made of, as its tensors' names tell.
type part struct {
	state bool // it keeps a state (Mamba, RWKV, LFM2's short convolutions, delta nets)
	keys  bool // it projects keys of its own
}

// stateTensors are what only recurrent layers have (src/llama-arch.cpp).
var stateTensors = []string{"ssm_", "time_mix_", "shortconv."}

// shape works out what the estimates of weights, cache and buffers share.
func (m *model) shape(ctx int) {
	tokens := uint64(max(ctx, 0))
	if tokens == 0 {
		tokens = uint64(m.Context)
	}
	// A batch is never larger than the context, nor a micro-batch than a batch.
	m.batch = min(m.ubatch, m.options.batch, max(tokens, 1))
	// llama.cpp rounds the context up to a multiple of 256, and with slots that
	// share nothing each one's share (llama_context's constructor).
	m.ctx = pad(tokens)
	if !m.unified {
		m.ctx = max(pad(m.ctx/m.slots), 256)
	}
	m.parts = make([]part, m.Layers)
	for i := range m.Tensors {
		m.look(&m.Tensors[i])
	}
}

// look takes note of one tensor.
func (m *model) look(t *gguf.Tensor) {
	layer, inLayer := t.Layer(m.Layers)
	if inLayer {
		_, name, _ := strings.Cut(strings.TrimPrefix(t.Name, "blk."), ".")
		for _, start := range stateTensors {
			if strings.HasPrefix(name, start) {
				m.parts[layer].state = true
			}
		}
		if name == "attn_k.weight" {
			m.parts[layer].keys = true
		}
	}
	if len(t.Dims) < 2 || m.skipped(layer, inLayer) {
		return
	}
	if inLayer && strings.Contains(t.Name, ".ffn_up") {
		width := t.Dims[1]
		if t.Expert() {
			width = mul(width, max(uint64(m.ExpertsUsed), 1))
		}
		m.widest = max(m.widest, width)
	}
	if inLayer && (layer < m.first || m.expertsStay(layer) && t.Expert()) {
		m.moved = max(m.moved, t.Bytes)
	}
}

// skipped says whether a layer is not loaded at all: those that only guess
// tokens ahead, unless they are asked to.
func (m *model) skipped(layer uint32, inLayer bool) bool {
	return inLayer && !m.drafts && uint64(layer)+uint64(m.Memory.DraftLayers) >= uint64(m.Layers)
}

// expertsStay says whether a layer's experts are kept in the CPU's memory.
func (m *model) expertsStay(layer uint32) bool { return uint64(layer) < m.cpuExperts }

// encoder says whether the model makes embeddings and nothing else.
func (m *model) encoder() bool { return strings.Contains(m.Architecture, "bert") }

// weights returns the bytes of the model's weights that go to VRAM.
//
// The embedding and the rest of the input stay where they are: llama.cpp has
// them looked up by the CPU. A model that uses its embedding as its output too
// has a second copy of it made.
func (m *model) weights() uint64 {
	w := m.Weights()
	sum := w.Output
	if w.Tied && !m.encoder() {
		sum = add(sum, w.Embedding)
	}
	for layer := m.first; layer < m.Layers; layer++ {
		switch {
		case m.skipped(layer, true):
		case m.expertsStay(layer):
			sum = add(sum, w.Layers[layer]-w.Experts[layer])
		default:
			sum = add(sum, w.Layers[layer])
		}
	}
	return sum
}
