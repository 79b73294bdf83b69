package gguf

import (
	"regexp"
	"strconv"
	"strings"
)

// Weights says which part of a model has how many bytes. All parts together are
// the header's TensorBytes.
//
// llama-server offloads the output first, then layers from the last one down; the
// embedding and the rest of the input stay in the CPU's memory. Where Tied is set the embedding is the
// output too, and offloading the output takes a second copy of it.
type Weights struct {
	Layers    []uint64 // bytes of each layer's tensors, experts included
	Experts   []uint64 // of these the bytes of experts, which can be kept in the CPU's memory
	Embedding uint64   // token_embd.weight
	Input     uint64   // what else is only looked up by token: per_layer_token_embd.weight, position_embd.weight, ...
	Output    uint64   // all the rest: output.weight, output_norm.weight, ...
	Tied      bool     // there is no output.weight
}

// experts is how llama.cpp knows an expert's weights (common/common.h).
var experts = regexp.MustCompile(`\.ffn_(up|down|gate|gate_up)_(ch|)exps`)

// Expert says whether the tensor has weights of experts.
func (t *Tensor) Expert() bool { return experts.MatchString(t.Name) }

// Input says whether the tensor is only looked up by token, the embedding
// included (LLM_TENSOR_LAYER_INPUT in llama.cpp's src/llama-arch.cpp).
func (t *Tensor) Input() bool {
	switch t.Name {
	case "token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight":
		return true
	}
	return false
}

// Weights sums the tensors up by the place that they have in the model.
func (h *Header) Weights() Weights {
	w := Weights{Layers: make([]uint64, h.Layers), Experts: make([]uint64, h.Layers), Tied: true}
	for i := range h.Tensors {
		t := &h.Tensors[i]
		layer, inLayer := t.Layer(h.Layers)
		switch {
		case inLayer:
			w.Layers[layer] += t.Bytes
			if t.Expert() {
				w.Experts[layer] += t.Bytes
			}
		case t.Name == "token_embd.weight":
			w.Embedding += t.Bytes
		case t.Input():
			w.Input += t.Bytes
		default:
			w.Output += t.Bytes
		}
		if t.Name == "output.weight" {
			w.Tied = false
		}
	}
	return w
}

// Layer returns the N of a tensor named blk.N.something, if it is below layers.
func (t *Tensor) Layer(layers uint32) (layer uint32, ok bool) {
	rest, ok := strings.CutPrefix(t.Name, "blk.")
	if !ok {
		return 0, false
	}
	number, _, ok := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || n >= uint64(layers) {
		return 0, false
	}
	return uint32(n), true
}
