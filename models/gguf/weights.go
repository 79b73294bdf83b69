package gguf

import (
	"regexp"
	"strconv"
	"strings"
)

// Weights has the bytes of each part of a model. Their sum is the header's TensorBytes.
//
// llama-server offloads the output first, then layers from the last one down; the
// embedding and the rest of the input stay in the CPU's memory. If Tied is set, the
// embedding is the output as well, and offloading the output needs a copy of it.
type Weights struct {
	Layers    []uint64 // bytes of each layer's tensors, experts included
	Experts   []uint64 // of these, the experts, which can be kept in the CPU's memory
	Embedding uint64   // token_embd.weight
	Input     uint64   // other tensors that are only looked up by token: per_layer_token_embd.weight, position_embd.weight, ...
	Output    uint64   // all others: output.weight, output_norm.weight, ...
	Tied      bool     // the model has no output.weight
}

// experts matches the names of experts' weights, as in llama.cpp (common/common.h).
var experts = regexp.MustCompile(`\.ffn_(up|down|gate|gate_up)_(ch|)exps`)

// Expert reports whether the tensor has weights of experts.
func (t *Tensor) Expert() bool { return experts.MatchString(t.Name) }

// Input reports whether the tensor is only looked up by token, as the embedding is
// (LLM_TENSOR_LAYER_INPUT in llama.cpp's src/llama-arch.cpp).
func (t *Tensor) Input() bool {
	switch t.Name {
	case "token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight":
		return true
	}
	return false
}

// Weights adds up the tensors by part of the model.
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

// Layer returns N for a tensor with the name blk.N.something, if N is below layers.
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
