package models

import (
	"path/filepath"
	"regexp"
	"strings"
)

var (
	shardSuffix = regexp.MustCompile(`-\d{5}-of-\d{5}$`)
	// quantSuffix is a quantisation as llama.cpp and publishers of GGUF files write
	// it: Q4_K_M, IQ2_XXS, Q8_0, UD-Q4_K_XL, F16, MXFP4, ...
	quantSuffix = regexp.MustCompile(`(?i)[-._](?:ud-)?(?:i?q\d+(?:_[a-z0-9]+)*|tq\d_\d|bf16|fp?16|fp?32|mxfp4(?:_moe)?|nvfp4|fp8)$`)
)

// Quantization returns the quantisation at the end of a file's name without .gguf and the shard
// suffix, in capitals, such as Q4_K_M or UD-Q4_K_XL; "" where there is none.
func Quantization(name string) string {
	found := quantSuffix.FindString("-" + shardSuffix.ReplaceAllString(name, ""))
	return strings.ToUpper(strings.TrimLeft(found, "-._"))
}

// ServerName derives a server's name from its file's: in lower case, without .gguf, the shard
// suffix and the quantisation.
//
//	Qwen2.5-14B-Instruct-Q4_K_M-00001-of-00003.gguf -> qwen2.5-14b-instruct
func ServerName(path string) string {
	name := filepath.Base(path)
	if ext := filepath.Ext(name); strings.EqualFold(ext, ".gguf") {
		name = strings.TrimSuffix(name, ext)
	}
	whole := name
	name = shardSuffix.ReplaceAllString(name, "")
	name = quantSuffix.ReplaceAllString(name, "")
	if name == "" { // the file's name has nothing but a quantisation
		name = whole
	}
	return strings.ToLower(name)
}
