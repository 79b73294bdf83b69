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

// width is the size of a value in bytes, 0 for types without a fixed one.
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

// whole reports whether values of the type are whole numbers. llama.cpp insists
// on one width for each key; tools that write GGUF files are not so strict.
func (t valueType) whole() bool {
	switch t {
	case typeUint8, typeInt8, typeUint16, typeInt16, typeUint32, typeInt32, typeUint64, typeInt64:
		return true
	case typeFloat32, typeBool, typeString, typeArray, typeFloat64:
	}
	return false
}

// value is a metadata entry that was kept.
type value struct {
	kind    valueType // of the elements, if array
	array   bool
	count   uint64   // elements; 1 for a scalar
	numbers []uint64 // nil unless kind is whole, or a list of yes and no, and count at most maxLayers
	text    string   // of a scalar string, at most maxText bytes
}

// The entries that are kept; everything else is streamed over.
var (
	wantedKeys = []string{
		"general.architecture", "general.type", "general.name", "general.size_label", "general.file_type",
		"general.alignment", "split.no", "split.count", "split.tensors.count", "tokenizer.ggml.tokens",
	}
	// Those of the architecture, whose name may come after them in the file.
	wantedSuffixes = []string{
		".block_count", ".embedding_length", ".context_length",
		".attention.head_count", ".attention.head_count_kv", ".attention.key_length", ".attention.value_length",
		".expert_count", ".expert_used_count",
		".attention.sliding_window", windowPattern, ".attention.key_length_swa", ".attention.value_length_swa",
		".attention.key_length_mla", ".attention.shared_kv_layers", ".nextn_predict_layers",
		".ssm.conv_kernel", ".ssm.inner_size", ".ssm.state_size", ".ssm.group_count",
		".kda.head_dim", ".wkv.head_size", ".token_shift_count", ".shortconv.l_cache",
	}
)

func wanted(key string) bool {
	return slices.Contains(wantedKeys, key) ||
		slices.ContainsFunc(wantedSuffixes, func(suffix string) bool { return strings.HasSuffix(key, suffix) })
}

// maxKept is far more entries than any model has of those that are wanted.
const maxKept = 256

// perLayer says whether the value of a key may be a list with a number for each
// layer. No other list is kept.
func perLayer(key string) bool {
	return strings.HasSuffix(key, ".attention.head_count") || strings.HasSuffix(key, ".attention.head_count_kv") ||
		strings.HasSuffix(key, windowPattern)
}

// windowPattern is the end of the one key whose list may be of yes and no.
const windowPattern = ".attention.sliding_window_pattern"

// countable says whether the numbers of a value are to be kept.
func (v value) countable(key string) bool {
	if v.array {
		return perLayer(key) && (v.kind.whole() || v.kind == typeBool && strings.HasSuffix(key, windowPattern))
	}
	return v.kind.whole()
}

// readMetadata reads count entries and returns those that are wanted.
func readMetadata(s *stream, count uint64) map[string]value {
	kept := make(map[string]value)
	for range count {
		key := string(s.key())
		keep := wanted(key) && len(kept) < maxKept
		v := s.value(key, keep)
		if s.err != nil {
			break
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
	return kept
}

// value reads the value of a key, and only its type and element count unless
// keep is set.
func (s *stream) value(key string, keep bool) value {
	v := value{kind: valueType(s.u32()), count: 1}
	if v.kind == typeArray {
		v.array, v.kind, v.count = true, valueType(s.u32()), s.u64()
	}
	width := v.kind.width()
	switch {
	case s.err != nil:
	case v.kind == typeString && !v.array && keep:
		v.text = s.text(maxText)
	case v.kind == typeString:
		for range v.count {
			if s.skipText(); s.err != nil {
				break
			}
		}
	case v.kind == typeArray:
		s.damaged("it has an array of arrays, which the format does not know")
	case width == 0:
		s.damaged("a metadata value has the type %d, which the format does not know", v.kind)
	case v.count > s.end/width: // keeps the product below from overflowing
		s.damaged("an array counts %d elements", v.count)
	case keep && v.countable(key) && v.count <= maxLayers && s.has(v.count*width):
		v.numbers = make([]uint64, v.count)
		for i := range v.numbers {
			v.numbers[i] = s.number(v.kind)
		}
	default:
		s.skip(v.count * width)
	}
	return v
}

// number reads a whole number. None of those that are kept can be negative.
func (s *stream) number(kind valueType) uint64 {
	var p [8]byte
	width := kind.width()
	s.fill(p[:width])
	if signed := kind == typeInt8 || kind == typeInt16 || kind == typeInt32 || kind == typeInt64; signed && p[width-1] >= 0x80 {
		s.damaged("a count in its metadata is negative")
	}
	return binary.LittleEndian.Uint64(p[:])
}
