package gguf

import (
	"bytes"
	"math"
	"slices"
	"testing"
)

// checkInvariants checks what must hold for each accepted header of a file of size bytes.
func checkInvariants(t *testing.T, h *Header, size uint64) {
	t.Helper()
	var sum uint64
	for i := range h.Tensors {
		if h.Tensors[i].Bytes > maxTensorBytes {
			t.Errorf("tensor %q has %d bytes", h.Tensors[i].Name, h.Tensors[i].Bytes)
		}
		sum += h.Tensors[i].Bytes
	}
	if sum != h.TensorBytes {
		t.Errorf("TensorBytes = %d, the tensors have %d", h.TensorBytes, sum)
	}
	if sum > size {
		t.Errorf("%d bytes of tensors in a file of %d", sum, size)
	}
	w := h.Weights()
	parts := w.Embedding + w.Input + w.Output
	for i := range w.Layers {
		parts += w.Layers[i]
		if w.Experts[i] > w.Layers[i] {
			t.Errorf("layer %d has %d bytes, %d of experts", i, w.Layers[i], w.Experts[i])
		}
	}
	if parts != sum {
		t.Errorf("the parts of Weights have %d bytes, all tensors %d", parts, sum)
	}
	if h.Architecture == "" || h.Layers < 1 || h.Layers > maxLayers || h.Embedding < 1 {
		t.Errorf("architecture %q, %d layers, embedding %d", h.Architecture, h.Layers, h.Embedding)
	}
	if len(h.KVHeads) != int(h.Layers) || slices.Max(h.KVHeads) > h.Heads {
		t.Errorf("%d KV heads for %d layers, at most %d of %d", len(h.KVHeads), h.Layers, slices.Max(h.KVHeads), h.Heads)
	}
	if len(h.Memory.WindowLayers) > int(h.Layers) {
		t.Errorf("%d answers on windows for %d layers", len(h.Memory.WindowLayers), h.Layers)
	}
	if h.Heads > 0 && (h.KeyLength < 1 || h.ValueLength < 1) {
		t.Errorf("%d heads of %d and %d", h.Heads, h.KeyLength, h.ValueLength)
	}
}

// FuzzParse feeds a header and a claimed size of the file that goes on after it.
func FuzzParse(f *testing.F) {
	for _, good := range []file{
		llama(),
		llama().withTensors(),
		llama().with("general.alignment", uint32(64)),
		llama().with("llama.attention.head_count_kv", []uint32{1, 4}),
		llama().with("llama.attention.sliding_window_pattern", []bool{true, false}),
		llama().with("llama.expert_count", uint32(8)).with("split.count", uint16(2)),
		llama().withTensors(tensor{name: "a", kind: 99, dims: []uint64{7}, size: 64}, tensor{name: "b", kind: 12, dims: []uint64{256}, size: 144}),
	} {
		f.Add(good.bytes(f), uint32(0))
	}
	for _, bad := range damagedFiles(f) {
		f.Add(bad.data, uint32(0))
	}
	f.Add(llama().bytes(f)[:500], uint32(math.MaxUint32))
	f.Fuzz(func(t *testing.T, data []byte, more uint32) {
		size := int64(len(data)) + int64(more)
		var h *Header
		var err error
		got := allocated(func() { h, err = Parse(bytes.NewReader(data), size) })
		if most := allowance(data); got > most {
			t.Errorf("%d bytes allocated for %d, at most %d expected", got, len(data), most)
		}
		if err == nil {
			checkInvariants(t, h, uint64(size))
		}
	})
}
