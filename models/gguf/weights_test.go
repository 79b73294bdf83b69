package gguf

import (
	"reflect"
	"testing"
)

func TestWeights(t *testing.T) {
	h := Header{Layers: 3, Tensors: []Tensor{
		{Name: "token_embd.weight", Bytes: 1},
		{Name: "per_layer_token_embd.weight", Bytes: 2},
		{Name: "position_embd.weight", Bytes: 4},
		{Name: "blk.0.attn_q.weight", Bytes: 10},
		{Name: "blk.0.ffn_gate_inp.weight", Bytes: 20},
		{Name: "blk.2.ffn_up_exps.weight", Bytes: 100},
		{Name: "blk.2.ffn_gate_up_exps.weight", Bytes: 200},
		{Name: "blk.2.ffn_down_shexp.weight", Bytes: 400},
		{Name: "output.weight", Bytes: 1000},
		{Name: "output_norm.weight", Bytes: 2000},
		// Names that are similar to those of a layer.
		{Name: "blk.3.attn_q.weight", Bytes: 10000},
		{Name: "blk.-1.attn_q.weight", Bytes: 10000},
		{Name: "blk.0", Bytes: 10000},
		{Name: "blk.99999999999999999999.a", Bytes: 10000},
		{Name: "enc.blk.0.attn_q.weight", Bytes: 10000},
	}}
	want := Weights{
		Layers: []uint64{30, 0, 700}, Experts: []uint64{0, 0, 300},
		Embedding: 1, Input: 6, Output: 53000,
	}
	if got := h.Weights(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	h.Tensors = h.Tensors[:2]
	if !h.Weights().Tied {
		t.Error("a model without output.weight is not tied")
	}
}
