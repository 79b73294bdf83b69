// Package gguf reads the header of a GGUF model file: architecture, layers, heads,
// quantisation and the size of each tensor. It never reads the weights.
//
// The daemon and `llmsup check` call it before they start a llama-server, to reject an
// unusable file at once with a clear message. Package vram estimates the VRAM need from
// the header.
//
// Files come from the internet, so no header is trusted: reads are bounded by the file's
// size, what is kept is bounded by constants, and arrays are skipped (a tokenizer has
// hundreds of thousands of strings). llama.cpp's ggml/include/gguf.h describes the format.
// This reader is as strict as llama.cpp's (ggml/src/gguf.cpp), since llama-server would
// reject the file as well.
package gguf

// Header is the header of a GGUF file, or of a model that is split over several. The comments
// name the metadata entry of each field; <arch> is the architecture's name. A missing entry
// leaves the zero value, unless the comment has another.
type Header struct {
	Version      uint32   // of the format: 2 or 3
	Architecture string   // general.architecture: "llama", "qwen2", ...
	Name         string   // general.name
	SizeLabel    string   // general.size_label: "14B", "8x7B", ...
	FileType     FileType // general.file_type; FileTypeUnknown where absent

	Layers      uint32   // <arch>.block_count, from 1 to 4096
	Embedding   uint32   // <arch>.embedding_length, at least 1
	Heads       uint32   // <arch>.attention.head_count, the largest of all layers; 0 in models without attention (Mamba, RWKV)
	KVHeads     []uint32 // <arch>.attention.head_count_kv, one for each layer; absent = the layer's query heads; 0 in a layer without attention
	KeyLength   uint32   // elements of a K head, <arch>.attention.key_length; absent = Embedding/Heads
	ValueLength uint32   // elements of a V head, <arch>.attention.value_length; absent = Embedding/Heads
	Context     uint32   // <arch>.context_length: the trained context, in tokens
	Vocabulary  uint32   // number of tokenizer.ggml.tokens
	Memory      Memory   // further entries that decide the cache's size

	Pooling       Pooling // <arch>.pooling_type: how an embedding is made of a text's tokens; PoolingUnset where absent
	Bidirectional bool    // <arch>.attention.causal is false: each token attends to all others, so that the model generates nothing
	RankHead      bool    // it has tensors that compute a document's rank: cls.weight, cls.output.weight
	ChatTemplate  bool    // tokenizer.chat_template exists
	ToolTemplate  bool    // a chat template of the file mentions tools

	Experts     uint32 // <arch>.expert_count: in each layer; 0 in a dense model
	ExpertsUsed uint32 // <arch>.expert_used_count: for each token

	Tensors     []Tensor // in file order, shard after shard
	TensorBytes uint64   // the sum of the Tensors' Bytes
	Parameters  uint64   // the sum of the Tensors' elements
	Files       []string // the shards in order, one for a whole file; nil from Parse
}

// Memory has the entries that decide how much a layer stores of earlier tokens. They serve
// estimates only, so no value makes a file invalid: a value of the wrong type
// counts as absent, and none is checked against the rest of the header.
type Memory struct {
	Window       uint32 // <arch>.attention.sliding_window: the tokens that a layer with a window attends to
	WindowPeriod uint32 // <arch>.attention.sliding_window_pattern, if a number: one layer of so many has no window
	WindowLayers []bool // the same entry, if a list: whether a layer has a window; may have fewer entries than layers

	WindowKeyLength   uint32 // elements of a K head in a layer with a window, <arch>.attention.key_length_swa; absent = KeyLength
	WindowValueLength uint32 // elements of a V head in a layer with a window, <arch>.attention.value_length_swa; absent = ValueLength

	Latent       bool   // <arch>.attention.key_length_mla exists: K and V are computed from one latent vector of KeyLength elements
	SharedLayers uint32 // <arch>.attention.shared_kv_layers: the last so many layers use the K and V of an earlier one
	DraftLayers  uint32 // <arch>.nextn_predict_layers: the last so many layers only predict further tokens

	// For layers that keep a state instead of K and V (Mamba, RWKV, gated delta nets):
	StateKernel uint32 // <arch>.ssm.conv_kernel
	StateInner  uint32 // <arch>.ssm.inner_size
	StateSize   uint32 // <arch>.ssm.state_size
	StateGroups uint32 // <arch>.ssm.group_count
	DeltaHead   uint32 // <arch>.kda.head_dim, of Kimi's delta attention
	WKVHead     uint32 // <arch>.wkv.head_size, of RWKV
	TokenShifts uint32 // <arch>.token_shift_count, of RWKV; absent = 2
	ShortKernel uint32 // <arch>.shortconv.l_cache, of LFM2
}

// Limits of a header. All are far above any real model: the largest have some 60,000
// tensors (unmerged experts), a tokenizer of 20 MB, and tensors of 20 GB. llama.cpp allows
// 512 layers.
const (
	maxHeader      = 256 << 20 // bytes before the tensor data
	maxEntries     = 1 << 16   // metadata entries
	maxTensors     = 1 << 16   // over all shards
	maxTensorBytes = 1 << 40
	maxLayers      = 4096
	maxKey         = 65535   // bytes; the format's own limit
	maxKeptKey     = 256     // bytes; no wanted key is longer
	maxTensorName  = 255     // bytes; llama.cpp allows 63
	maxText        = 4096    // bytes kept of a string value
	maxTemplate    = 1 << 20 // bytes kept of a chat template until the header is read; real ones have some 10 KiB
	maxDims        = 4       // GGML_MAX_DIMS
	maxShards      = 65535   // split.count is 16 bits wide
)
