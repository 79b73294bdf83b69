package gguf

import (
	"fmt"
	"math"
)

// FileType is the format of most of a model's weights (enum llama_ftype of llama.cpp's
// include/llama.h).
type FileType uint32

// FileTypeUnknown is the type of a file without general.file_type.
const FileTypeUnknown FileType = math.MaxUint32

var fileTypes = map[FileType]string{
	0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1",
	7: "Q8_0", 8: "Q5_0", 9: "Q5_1",
	10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
	14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
	19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS",
	24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M",
	32: "BF16",
	// No longer written, and no longer run by llama-server.
	33: "Q4_0_4_4", 34: "Q4_0_4_8", 35: "Q4_0_8_8",
	36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}

// String returns the name that llama-quantize uses, such as "Q4_K_M".
func (t FileType) String() string {
	if t == FileTypeUnknown {
		return "unknown"
	}
	if name, ok := fileTypes[t]; ok {
		return name
	}
	return fmt.Sprintf("unknown(%d)", uint32(t))
}
