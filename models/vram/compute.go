package vram

// driver is what the driver and the libraries for computing take for themselves,
// in bytes. It is less on a small GPU and more on a large one, from 150 to 500 MiB.
const driver = 256 << 20

// compute returns the bytes of buffers for computing, and of the driver.
//
// llama.cpp plans its graph for a full micro-batch, and the buffer has the size
// of the graph's widest place. For most models that is the output, with a
// probability for each token of the vocabulary; it can be a feed-forward network
// or, without flash attention, the scores of all tokens with all others.
func (m *model) compute() uint64 {
	embedding := uint64(m.Embedding)
	floats := func(perToken uint64) uint64 { return mul(m.batch, perToken, 4) }

	output := uint64(0)
	if !m.encoder() {
		output = floats(add(uint64(m.Vocabulary), embedding))
	}
	// What comes in and what goes out, at the gate and at the way up.
	network := floats(add(mul(2, m.widest), mul(2, embedding)))
	// A mask, and the residual in some four states.
	attention := floats(add(m.ctx, mul(4, embedding)))
	if m.flashOff {
		attention = add(attention, floats(mul(uint64(m.Heads), m.ctx)))
	}
	// Weights that stay in the CPU's memory are copied over to compute a prompt.
	if !m.noOpOffload {
		network = add(network, m.moved)
	}
	return add(max(output, network, attention), m.scratch(), driver)
}

// scratch returns the bytes that flash attention takes to read a quantised cache:
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
