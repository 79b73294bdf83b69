package vram

import "math"

// withoutCache are the architectures that process a whole text at once and need no cache
// (llama_model::create_memory).
var withoutCache = map[string]bool{
	"bert": true, "jina-bert-v2": true, "jina-bert-v3": true, "nomic-bert": true, "nomic-bert-moe": true, "neo-bert": true,
	"eurobert": true, "modern-bert": true, "gemma-embedding": true, "wavtokenizer-dec": true,
	"dream": true, "llada": true, "llada-moe": true, "rnd1": true,
}

// specialCaches are the architectures with a cache of another kind: an index beside the
// keys, or keys that combine several tokens. For them, the estimate of an ordinary cache is
// only near the truth.
var specialCaches = map[string]bool{"deepseek32": true, "deepseek4": true, "glm-dsa": true, "minimax-m3": true, "minimax-01": true}

// cache returns the bytes of the cache in VRAM.
//
// Layers that only predict further tokens count as any other, though some architectures
// leave them out: that is one layer of many.
func (m *model) cache() uint64 {
	if withoutCache[m.Architecture] {
		return 0
	}
	var sum uint64
	for layer := m.first; layer < m.Layers; layer++ {
		sum = add(sum, m.keysAndValues(layer), m.state(layer))
	}
	return sum
}

// keysAndValues returns the bytes of a layer's keys and values.
func (m *model) keysAndValues(layer uint32) uint64 {
	if layer >= m.layersWithKeys() {
		return 0
	}
	k, v := m.elements(layer)
	token := add(row(m.typeK, k), row(m.typeV, v))
	return mul(token, m.cells(layer), m.streams())
}

// elements returns how many elements the keys and the values of one token have
// in a layer.
func (m *model) elements(layer uint32) (keys, values uint64) {
	// A recurrent layer has neither, unless it has attention as well, as in Falcon-H1.
	// Its number of KV heads need not be 0: Qwen3-Next has one number for all layers.
	if int(layer) >= len(m.KVHeads) || m.parts[layer].state && !m.parts[layer].keys {
		return 0, 0
	}
	keyLength, valueLength := m.KeyLength, m.ValueLength
	if m.windowed(layer) {
		keyLength, valueLength = m.Memory.WindowKeyLength, m.Memory.WindowValueLength
	}
	if m.Memory.Latent {
		// The values are part of the keys (DeepSeek's MLA). Files from before April
		// 2025 lack the entry and are cached in full. Builds from before 2026 store
		// the values a second time.
		valueLength = 0
	}
	heads := uint64(m.KVHeads[layer])
	return mul(heads, uint64(keyLength)), mul(heads, uint64(valueLength))
}

// layersWithKeys returns how many layers, from the first, have keys and values of their
// own. The others use those of an earlier layer.
func (m *model) layersWithKeys() uint32 {
	if m.Architecture == "gemma3n" {
		return min(20, m.Layers) // whatever the file has
	}
	return m.Layers - min(m.Memory.SharedLayers, m.Layers)
}

// streams returns the number of separate caches: one for all slots, or one for each.
func (m *model) streams() uint64 {
	if m.unified {
		return 1
	}
	return m.slots
}

// cells returns how many tokens a layer can store, in one stream.
func (m *model) cells(layer uint32) uint64 {
	if !m.windowed(layer) || m.swaFull {
		return m.ctx
	}
	slots := m.slots
	if !m.unified {
		slots = 1
	}
	return pad(min(m.ctx, add(mul(m.window(), slots), m.batch)))
}

// state returns the bytes of a layer's recurrent state: one for each slot,
// whatever the context is (llama_hparams::n_embd_r and n_embd_s).
func (m *model) state(layer uint32) uint64 {
	if !m.parts[layer].state {
		return 0
	}
	s, width := m.Memory, uint64(m.Embedding)
	kernel := uint64(max(s.StateKernel, 1)) - 1
	var elements uint64
	switch {
	case s.WKVHead > 0:
		elements = add(mul(uint64(s.TokenShifts), width), mul(width, uint64(s.WKVHead)))
	case s.ShortKernel > 0:
		elements = mul(width, uint64(s.ShortKernel)-1)
	case s.DeltaHead > 0:
		head, heads := uint64(s.DeltaHead), uint64(m.Heads)
		elements = add(mul(3, kernel, heads, head), mul(heads, head, head))
	default:
		inner, size := uint64(s.StateInner), uint64(s.StateSize)
		elements = add(mul(kernel, add(inner, mul(2, uint64(s.StateGroups), size))), mul(inner, size))
	}
	return mul(elements, 4, m.slots) // always F32
}

// add and mul stop at the largest number: headers come from the internet.
func add(terms ...uint64) uint64 {
	var sum uint64
	for _, n := range terms {
		if sum += n; sum < n {
			return math.MaxUint64
		}
	}
	return sum
}

func mul(factors ...uint64) uint64 {
	product := uint64(1)
	for _, n := range factors {
		if n == 0 {
			return 0
		}
		if product > math.MaxUint64/n {
			product = math.MaxUint64
			continue // a factor of 0 may follow
		}
		product *= n
	}
	return product
}

// pad rounds up to a multiple of 256.
func pad(n uint64) uint64 { return add(n, 255) &^ 255 }
