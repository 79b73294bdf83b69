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

	Experts     uint32 // <arch>.expert_count: in each layer; 0 in a dense model
	ExpertsUsed uint32 // <arch>.expert_used_count: for each token

	Tensors     []Tensor // in file order, shard after shard
	TensorBytes uint64   // the sum of the Tensors' Bytes
	Files       []string // the shards in order, one for a whole file; nil from Parse
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
