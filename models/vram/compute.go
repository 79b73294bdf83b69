package vram

// Driver is the VRAM of the driver and its libraries in bytes, which is part of a Need's Compute.
// It varies from 150 MiB on a small GPU to 500 MiB on a large one.
const Driver = 256 << 20

// compute returns the bytes of buffers for computing, and of the driver.
//
// llama.cpp plans its graph for a full micro-batch, and the buffer has the size of
// the graph's widest place. The output is wide only if the vocabulary is much larger
// than the rest: it has a probability for each token, but of one token for each slot.
// Builds from before June 2026 (llama.cpp's PR 23861) plan for all tokens of a
// micro-batch there, and need up to half a GiB more: the first load shows how much.
func (m *model) compute() uint64 {
	embedding := uint64(m.Embedding)
	between := add(m.mask(), m.floats(mul(5, embedding)))
	network := max(add(m.mask(), m.floats(m.widest())), m.recurrent())
	output, attention := uint64(0), between
	if !m.encoder() {
		output = add(between, mul(m.slots, add(uint64(m.Vocabulary), embedding), 4))
	}
	if m.flashOff {
		attention = add(attention, m.floats(mul(uint64(m.Heads), m.ctx)))
	}
	// Weights that stay in the CPU's memory are copied over to compute a prompt.
	if !m.noOpOffload {
		network = add(network, m.largestCopied())
	}
	return add(max(output, network, attention), m.scratch(), Driver)
}

// floats returns the bytes of so many numbers for each token of a micro-batch.
func (m *model) floats(perToken uint64) uint64 { return mul(m.batch, perToken, 4) }

// mask returns the bytes of the attention masks: one for all layers with a window,
// one for all others.
func (m *model) mask() uint64 {
	element := uint64(2)
	if m.flashOff {
		element = 4
	}
	var full, windowed uint64
	for layer := m.first; layer < m.Layers; layer++ {
		switch keys, values := m.elements(layer); {
		case keys == 0 && values == 0:
		case m.windowed(layer):
			windowed = m.cells(layer)
		default:
			full = m.ctx
		}
	}
	return mul(m.batch, add(full, windowed), element)
}

// widest returns the numbers that are kept of one token at once, in the layer with
// the most. The residual and its norms count as so many embeddings; models/README.md
// compares the sums with llama-server's.
func (m *model) widest() uint64 {
	embedding, used := uint64(m.Embedding), max(uint64(m.ExpertsUsed), 1)
	var most uint64
	for i, p := range m.parts {
		if m.skipped(uint32(i)) {
			p.dense, p.experts = network{}, network{}
		}
		most = max(most, add(p.dense.numbers(), mul(5, embedding)))
		if experts := p.experts.numbers(); experts > 0 {
			most = max(most, add(mul(used, experts), mul(5, embedding)))
			most = max(most, mul(add(mul(2, used), 6), embedding)) // what the experts return, and the same by weight
		}
	}
	return most
}

// recurrent returns the bytes for computing a layer that keeps a state: the tokens, and
// the states of all slots before and after them.
func (m *model) recurrent() uint64 {
	var most uint64
	for layer := range m.parts {
		if state := m.state(uint32(layer)); state > 0 {
			most = max(most, add(m.floats(mul(5, add(uint64(m.Memory.StateInner), uint64(m.Embedding)))), mul(2, state)))
		}
	}
	return most
}

// scratch returns the bytes that flash attention needs to read a quantised cache:
// the keys and values of one layer as F16 (launch_fattn in llama.cpp's
// ggml/src/ggml-cuda/fattn-common.cuh).
func (m *model) scratch() uint64 {
	var most uint64
	for layer := m.first; layer < m.Layers; layer++ {
		k, v := m.elements(layer)
		if m.typeK.half() {
			k = 0
		}
		if m.typeV.half() {
			v = 0
		}
		most = max(most, mul(add(k, v), 2, m.cells(layer), m.streams()))
	}
	return most
}
