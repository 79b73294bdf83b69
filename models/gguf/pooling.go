package gguf

import "math"

// Pooling is how an embedding is made of the vectors of a text's tokens (enum
// llama_pooling_type of llama.cpp's include/llama.h).
type Pooling uint32

// The values of Pooling. A model with PoolingRank computes the rank of a document.
const (
	PoolingNone Pooling = iota
	PoolingMean
	PoolingCLS
	PoolingLast
	PoolingRank
	PoolingUnset Pooling = math.MaxUint32
)
