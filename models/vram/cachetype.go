package vram

// cacheType is how keys or values are stored: blocks of so many elements, each
// of so many bytes (ggml/src/ggml-common.h).
type cacheType struct {
	elements uint64
	bytes    uint64
}

// cacheTypes are those that --cache-type-k and --cache-type-v take.
var cacheTypes = map[string]cacheType{
	"f32":    {1, 4},
	"f16":    {1, 2},
	"bf16":   {1, 2},
	"q8_0":   {32, 34},
	"q4_0":   {32, 18},
	"q4_1":   {32, 20},
	"iq4_nl": {32, 18},
	"q5_0":   {32, 22},
	"q5_1":   {32, 24},
}

// half reports whether elements have 16 bits, which attention reads without conversion.
func (t cacheType) half() bool { return t == cacheType{1, 2} }

// row returns the bytes of n elements.
func row(t cacheType, n uint64) uint64 {
	return mul(add(n, t.elements-1)/t.elements, t.bytes)
}
