// Package gguf reads what a GGUF model file says about itself: architecture,
// layers, heads, quantisation, and the size of every tensor. It never reads the
// weights.
//
// The daemon and `llmsup check` call it before a llama-server is started, to
// refuse a file that cannot work in one sentence rather than after a minute of
// loading; the VRAM estimate is made from what it returns.
//
// Files come from the internet, so nothing in a header is trusted: what is read
// is bounded by the file's size, what is kept is bounded by constants, and
// arrays (a tokenizer has hundreds of thousands of strings) are streamed over.
// The format is described in llama.cpp's ggml/include/gguf.h; where its reader
// (ggml/src/gguf.cpp) is strict, this one is, because llama-server would refuse
// the file as well.
package gguf

// Header is what a GGUF file, or a model split over several, says about itself.
// The keys in the comments are the metadata entries that a field comes from;
// <arch> stands for the architecture's name. Unless a comment says otherwise, an
// absent entry leaves the zero value.
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
	Context     uint32   // <arch>.context_length: the tokens that the model was trained for
	Vocabulary  uint32   // number of tokenizer.ggml.tokens
	Memory      Memory   // what else the cache's size follows from

	Experts     uint32 // <arch>.expert_count: in each layer; 0 in a dense model
	ExpertsUsed uint32 // <arch>.expert_used_count: for each token

	Tensors     []Tensor // in file order, shard after shard
	TensorBytes uint64   // the sum of the Tensors' Bytes
	Files       []string // the shards in order, one for a whole file; nil from Parse
}

// Memory is what some architectures say of the tokens that they look back on.
// Only estimates are made of it, so that no value here makes a file a bad one:
// what is not of the right type counts as absent, and nothing is checked against
// the rest of the header.
type Memory struct {
	Window       uint32 // <arch>.attention.sliding_window: tokens that a layer with a window looks back on
	WindowPeriod uint32 // <arch>.attention.sliding_window_pattern, where it is a number: one layer of so many has no window
	WindowLayers []bool // the same where it is a list: whether a layer has a window; may have fewer entries than there are layers

	WindowKeyLength   uint32 // elements of a K head in a layer with a window, <arch>.attention.key_length_swa; absent = KeyLength
	WindowValueLength uint32 // elements of a V head in a layer with a window, <arch>.attention.value_length_swa; absent = ValueLength

	Latent       bool   // <arch>.attention.key_length_mla is there: K and V are made of one latent vector, of KeyLength elements
	SharedLayers uint32 // <arch>.attention.shared_kv_layers: so many layers at the end use the K and V of an earlier one
	DraftLayers  uint32 // <arch>.nextn_predict_layers: so many layers at the end only guess at the tokens that follow

	// Of the layers that keep a state instead of K and V (Mamba, RWKV, gated delta nets).
	StateKernel uint32 // <arch>.ssm.conv_kernel
	StateInner  uint32 // <arch>.ssm.inner_size
	StateSize   uint32 // <arch>.ssm.state_size
	StateGroups uint32 // <arch>.ssm.group_count
	DeltaHead   uint32 // <arch>.kda.head_dim, of Kimi's delta attention
	WKVHead     uint32 // <arch>.wkv.head_size, of RWKV
	TokenShifts uint32 // <arch>.token_shift_count, of RWKV; absent = 2
	ShortKernel uint32 // <arch>.shortconv.l_cache, of LFM2
}

// The limits on what a header may claim. All are far above any real model: the
// largest have some 60,000 tensors (experts not yet merged), 20 MB of tokenizer,
// and tensors of 20 GB. llama.cpp itself stops at 512 layers.
const (
	maxHeader      = 256 << 20 // bytes before the tensor data
	maxEntries     = 1 << 16   // metadata entries
	maxTensors     = 1 << 16   // over all shards
	maxTensorBytes = 1 << 40
	maxLayers      = 4096
	maxKey         = 65535 // bytes; the format's own limit
	maxKeptKey     = 256   // bytes; no key of interest is longer
	maxTensorName  = 255   // bytes; llama.cpp takes 63
	maxText        = 4096  // bytes kept of a string value
	maxDims        = 4     // GGML_MAX_DIMS
	maxShards      = 65535 // split.count is 16 bits wide
)
