package gguf

import (
	"math"
	"testing"
)

func TestFileTypeString(t *testing.T) {
	for kind, want := range map[FileType]string{
		0: "F32", 1: "F16", 7: "Q8_0", 15: "Q4_K_M", 27: "IQ3_M", 32: "BF16", 38: "MXFP4_MOE",
		99: "unknown(99)", FileTypeUnknown: "unknown",
	} {
		if got := kind.String(); got != want {
			t.Errorf("FileType(%d) = %s, want %s", uint32(kind), got, want)
		}
	}
}

func TestTensorTypeString(t *testing.T) {
	for kind, want := range map[TensorType]string{0: "F32", 12: "Q4_K", 30: "BF16", 39: "MXFP4", 4: "unknown(4)", 99: "unknown(99)"} {
		if got := kind.String(); got != want {
			t.Errorf("TensorType(%d) = %s, want %s", uint32(kind), got, want)
		}
	}
}

// The bits for a weight, as llama.cpp's comments and llama-quantize's help give them.
func TestLayouts(t *testing.T) {
	bits := map[string]float64{
		"F32": 32, "F16": 16, "BF16": 16, "F64": 64, "I8": 8, "I16": 16, "I32": 32, "I64": 64,
		"Q4_0": 4.5, "Q4_1": 5, "Q5_0": 5.5, "Q5_1": 6, "Q8_0": 8.5, "Q8_1": 9,
		"Q2_K": 2.625, "Q3_K": 3.4375, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q8_K": 9.125,
		"IQ1_S": 1.5625, "IQ1_M": 1.75, "IQ2_XXS": 2.0625, "IQ2_XS": 2.3125, "IQ2_S": 2.5625,
		"IQ3_XXS": 3.0625, "IQ3_S": 3.4375, "IQ4_NL": 4.5, "IQ4_XS": 4.25,
		"TQ1_0": 1.6875, "TQ2_0": 2.0625, "MXFP4": 4.25, "NVFP4": 4.5, "Q1_0": 1.125, "Q2_0": 2.25,
	}
	for kind, l := range layouts {
		if l.bytes == 0 {
			continue
		}
		got := float64(l.bytes) * 8 / float64(l.elements)
		if want, ok := bits[l.name]; !ok || math.Abs(got-want) > 1e-9 {
			t.Errorf("%v has %v bits a weight, want %v", kind, got, want)
		}
		delete(bits, l.name)
	}
	for name := range bits {
		t.Errorf("%s is not known", name)
	}
}
