package gguf

import (
	"encoding/binary"
	"slices"
	"strings"
)

// valueType is the type of a metadata value (enum gguf_type).
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// width returns the size of a value in bytes, 0 for types without a fixed size.
func (t valueType) width() uint64 {
	switch t {
	case typeUint8, typeInt8, typeBool:
		return 1
	case typeUint16, typeInt16:
		return 2
	case typeUint32, typeInt32, typeFloat32:
		return 4
	case typeUint64, typeInt64, typeFloat64:
		return 8
	case typeString, typeArray:
	}
	return 0
}

// whole reports whether values of the type are whole numbers. llama.cpp expects one type for
// each key, but tools write others, too.
func (t valueType) whole() bool {
	switch t {
	case typeUint8, typeInt8, typeUint16, typeInt16, typeUint32, typeInt32, typeUint64, typeInt64:
		return true
	case typeFloat32, typeBool, typeString, typeArray, typeFloat64:
	}
	return false
}

// value is the value of a metadata entry that is kept.
type value struct {
	kind    valueType // of the elements, if array
	array   bool
	count   uint64   // elements; 1 for a scalar
	numbers []uint64 // nil unless keepsNumbers, and count is at most maxLayers
	text    string   // of a scalar string, at most maxText bytes
}

// The entries that are kept; all others are skipped.
var (
	wantedKeys = []string{
		"general.architecture", "general.type", "general.name", "general.size_label", fileType,
		"general.alignment", "split.no", "split.count", "split.tensors.count", "tokenizer.ggml.tokens",
		hasVision, hasAudio,
	}
	// A file may have a second template, for calls with tools.
	chatTemplates = []string{"tokenizer.chat_template", "tokenizer.chat_template.tool_use"}
	// Entries of the architecture. In the file, its name may come after them.
	wantedSuffixes = []string{
		".block_count", ".embedding_length", ".context_length",
		".attention.head_count", ".attention.head_count_kv", ".attention.key_length", ".attention.value_length",
		".expert_count", ".expert_used_count",
		".attention.sliding_window", windowPattern, ".attention.key_length_swa", ".attention.value_length_swa",
		".attention.key_length_mla", ".attention.shared_kv_layers", ".nextn_predict_layers",
		".ssm.conv_kernel", ".ssm.inner_size", ".ssm.state_size", ".ssm.group_count",
		poolingType, causalAttention,
		".kda.head_dim", ".wkv.head_size", ".token_shift_count", ".shortconv.l_cache",
	}
)

func isWanted(key string) bool {
	return slices.Contains(wantedKeys, key) || slices.Contains(chatTemplates, key) ||
		slices.ContainsFunc(wantedSuffixes, func(suffix string) bool { return strings.HasSuffix(key, suffix) })
}

// maxKept is far more than the wanted entries of any model.
const maxKept = 256

// isPerLayer reports whether a key's value may be a list with a number for each layer. No
// other list is kept.
func isPerLayer(key string) bool {
	return strings.HasSuffix(key, ".attention.head_count") || strings.HasSuffix(key, ".attention.head_count_kv") ||
		strings.HasSuffix(key, windowPattern)
}

const (
	fileType    = "general.file_type"
	poolingType = ".pooling_type"
	// windowPattern is the suffix of the only key whose list may have booleans.
	windowPattern   = ".attention.sliding_window_pattern"
	causalAttention = ".attention.causal"
)

// keepsNumbers reports whether a value's numbers are kept.
func (v value) keepsNumbers(key string) bool {
	if v.array {
		return isPerLayer(key) && (v.kind.whole() || v.kind == typeBool && strings.HasSuffix(key, windowPattern))
	}
	return v.kind.whole() || v.kind == typeBool && isFlag(key)
}

// isFlag reports whether a key's boolean is kept, as 0 or 1.
func isFlag(key string) bool {
	return strings.HasSuffix(key, causalAttention) || key == hasVision || key == hasAudio
}

// largeEntry is the size of an entry, in bytes, that only a tokenizer has.
const largeEntry = 32 << 10

// tail is what follows the last large entry of some metadata.
type tail struct {
	at      uint64 // byte of the file
	entries uint64
}

// readMetadata reads the entries and returns the wanted ones.
func readMetadata(s *stream, count uint64) (kept map[string]value, after tail) {
	kept, after = make(map[string]value), tail{s.pos, count}
	for i := range count {
		start := s.pos
		key := string(s.key())
		keep := isWanted(key) && len(kept) < maxKept
		v := s.value(key, keep)
		if s.err != nil {
			break
		}
		if s.pos-start >= largeEntry {
			after = tail{s.pos, count - i - 1}
		}
		if !keep {
			continue
		}
		if _, twice := kept[key]; twice {
			s.damaged("it has %q twice", key)
			break
		}
		kept[key] = v
	}
	return kept, after
}

// value reads the value of a key. Unless keep is set, it returns only the type and the
// number of elements.
func (s *stream) value(key string, keep bool) value {
	v := value{kind: valueType(s.u32()), count: 1}
	if v.kind == typeArray {
		v.array, v.kind, v.count = true, valueType(s.u32()), s.u64()
	}
	width := v.kind.width()
	switch {
	case s.err != nil:
	case v.kind == typeString:
		limit := uint64(maxText)
		if slices.Contains(chatTemplates, key) {
			limit = maxTemplate
		}
		s.strings(&v, keep, limit)
	case v.kind == typeArray:
		s.damaged("it has an array of arrays, which the format does not allow")
	case width == 0:
		s.damaged("a metadata value has the type %d, which the format does not have", v.kind)
	case v.count > s.end/width: // so that no product with width overflows
		s.damaged("an array counts %d elements", v.count)
	case keep && v.keepsNumbers(key) && v.count <= maxLayers:
		s.numbers(&v)
	default:
		s.skip(v.count * width)
	}
	return v
}

// strings reads a string and keeps its first limit bytes, or skips a list of them or one that
// is not kept.
func (s *stream) strings(v *value, keep bool, limit uint64) {
	if keep && !v.array {
		v.text = s.text(limit)
		return
	}
	for range v.count {
		if s.skipText(); s.err != nil {
			return
		}
	}
}

// numbers reads a whole number or a list of them.
func (s *stream) numbers(v *value) {
	if !s.has(v.count * v.kind.width()) {
		return
	}
	v.numbers = make([]uint64, v.count)
	for i := range v.numbers {
		v.numbers[i] = s.number(v.kind)
	}
}

// number reads a whole number. No kept number may be negative.
func (s *stream) number(kind valueType) uint64 {
	var p [8]byte
	width := kind.width()
	s.fill(p[:width])
	if signed := kind == typeInt8 || kind == typeInt16 || kind == typeInt32 || kind == typeInt64; signed && p[width-1] >= 0x80 {
		s.damaged("a count in its metadata is negative")
	}
	return binary.LittleEndian.Uint64(p[:])
}
