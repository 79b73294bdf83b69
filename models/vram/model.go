package vram

import (
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models/gguf"
)

// Model is what the estimate needs of a model's header: it is small, and a table of many needs
// takes little time.
type Model struct {
	header  gguf.Header // without its tensors
	weights gguf.Weights
	parts   []part // by layer
}

// New takes a header apart.
func New(h *gguf.Header) *Model {
	m := &Model{header: *h, weights: h.Weights(), parts: make([]part, h.Layers)}
	m.header.Tensors = nil
	for i := range h.Tensors {
		m.inspect(&h.Tensors[i])
	}
	return m
}

// model is a Model and how llama-server will run it.
type model struct {
	*gguf.Header
	options

	variable  string // Run.Variable
	weightsOf *gguf.Weights
	parts     []part // by layer

	first  uint32 // the first offloaded layer; Layers = the output alone
	ctx    uint64 // tokens of one stream
	batch  uint64 // tokens computed at once
	inVRAM uint64 // bytes of the weights in VRAM
}

// part is what a layer is made of, by its tensors' names.
type part struct {
	state   bool // it keeps a state (Mamba, RWKV, LFM2's short convolutions, delta nets)
	keys    bool // it projects keys of its own
	dense   network
	experts network // one of them

	largest       uint64 // bytes of its largest matrix
	largestExpert uint64 // bytes of the largest one with experts
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

// run returns the model as llama-server will run it with some offloaded layers; ok is false if it
// needs no VRAM. Its context is not set.
func (m *Model) run(r Run) (run *model, ok bool) {
	run = &model{Header: &m.header, options: parseArgs(r.Args), variable: r.Variable, weightsOf: &m.weights, parts: m.parts}
	// The output counts as a layer and is offloaded first (load_tensors). Builds from
	// before December 2025 offload it last.
	layers := min(uint64(max(r.GPULayers, 0)), uint64(run.Layers)+1)
	if r.GPULayers < 0 {
		layers = uint64(run.Layers) + 1
	}
	run.first = uint32(uint64(run.Layers) + 1 - layers)
	if layers == 0 || run.noDevice {
		return run, false
	}
	run.inVRAM = run.sumWeights()
	return run, true
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
func (m *Model) inspect(t *gguf.Tensor) {
	layer, inLayer := t.Layer(m.header.Layers)
	if !inLayer {
		return
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(t.Name, "blk."), ".")
	p := &m.parts[layer]
	p.state = p.state || slices.ContainsFunc(stateTensors, func(start string) bool { return strings.HasPrefix(name, start) })
	p.keys = p.keys || name == "attn_k.weight"
	if len(t.Dims) < 2 {
		return
	}
	p.largest = max(p.largest, t.Bytes)
	if t.Expert() {
		p.experts.add(name, t)
		p.largestExpert = max(p.largestExpert, t.Bytes)
	} else {
		p.dense.add(name, t)
	}
}

// largestCopied returns the bytes of the largest matrix in the CPU's memory.
func (m *model) largestCopied() (largest uint64) {
	for i, p := range m.parts {
		switch layer := uint32(i); {
		case m.skipped(layer):
		case layer < m.first:
			largest = max(largest, p.largest)
		case m.expertsOnCPU(layer):
			largest = max(largest, p.largestExpert)
		}
	}
	return largest
}

// skipped reports whether a layer is not loaded: one that only predicts further tokens,
// unless a flag enables that.
func (m *model) skipped(layer uint32) bool {
	return !m.loadsDraftLayers && uint64(layer)+uint64(m.Memory.DraftLayers) >= uint64(m.Layers)
}

// expertsOnCPU reports whether a layer's experts are kept in the CPU's memory.
func (m *model) expertsOnCPU(layer uint32) bool { return uint64(layer) < m.cpuExperts }

// encoder reports whether the model only computes embeddings.
func (m *model) encoder() bool { return strings.Contains(m.Architecture, "bert") }

// sumWeights returns the bytes of the model's weights that go to VRAM.
//
// The embedding and the rest of the input stay in the CPU's memory, where llama.cpp looks
// tokens up. If the embedding is also the output, the VRAM has a copy of it.
func (m *model) sumWeights() uint64 {
	w := m.weightsOf
	sum := w.Output
	if w.Tied && !m.encoder() {
		sum = add(sum, w.Embedding)
	}
	for layer := m.first; layer < m.Layers; layer++ {
		switch {
		case m.skipped(layer):
		case m.expertsOnCPU(layer):
			sum = add(sum, w.Layers[layer]-w.Experts[layer])
		default:
			sum = add(sum, w.Layers[layer])
		}
	}
	return sum
}

// Context returns the context that the model was trained for, in tokens; 0 = unknown.
func (m *Model) Context() int { return int(m.header.Context) }

// Layers returns the number of layers, the output included, as --n-gpu-layers counts them.
func (m *Model) Layers() int { return int(m.header.Layers) + 1 }

// KnownArchitecture reports whether the estimate is made for the model's architecture.
func (m *Model) KnownArchitecture() bool { return architectures[m.header.Architecture] }
