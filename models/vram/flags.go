package vram

import (
	"math"
	"strings"
)

// flag is one of llama-server's flags. A flag with a value has set, one without has on.
type flag struct {
	names string // separated by blanks
	on    func(o *options)
	set   func(o *options, value string)
}

// maxSlots is llama.cpp's LLAMA_MAX_SEQ.
const maxSlots = 256

// flags are those that change the VRAM need, with all their names (llama-server --help;
// common/arg.cpp), but not --ctx-size and --n-gpu-layers, which Run has.
var flags = []flag{
	{names: "-b --batch-size", set: number(func(o *options, n uint64) { o.batch = n })},
	{names: "-ub --ubatch-size", set: number(func(o *options, n uint64) { o.ubatch = n })},
	{names: "-np --parallel", set: func(o *options, value string) {
		if strings.HasPrefix(value, "-") {
			o.slots = 0 // chosen by llama-server
		} else if n, ok := parseNumber(value); ok && n > 0 {
			o.slots = min(n, maxSlots)
		}
	}},
	{names: "-kvu --kv-unified", on: func(o *options) { o.unifiedFlag = new(true) }},
	{names: "-no-kvu --no-kv-unified", on: func(o *options) { o.unifiedFlag = new(false) }},
	{names: "-ctk --cache-type-k", set: func(o *options, value string) { setType(&o.typeK, value) }},
	{names: "-ctv --cache-type-v", set: func(o *options, value string) { setType(&o.typeV, value) }},
	{names: "-kvo --kv-offload", on: func(o *options) { o.noKVOffload = false }},
	{names: "-nkvo --no-kv-offload", on: func(o *options) { o.noKVOffload = true }},
	{names: "--op-offload", on: func(o *options) { o.noOpOffload = false }},
	{names: "--no-op-offload", on: func(o *options) { o.noOpOffload = true }},
	{names: "--swa-full", on: func(o *options) { o.swaFull = true }},
	{names: "-fa --flash-attn", set: func(o *options, value string) { o.flashOff = isFalsy(value) }},
	{names: "-fit --fit", set: func(o *options, value string) { o.fitOff = isFalsy(value) }},
	// The largest of several of these applies.
	{names: "-cmoe --cpu-moe", on: func(o *options) { o.cpuExperts = math.MaxUint64 }},
	{names: "-ncmoe --n-cpu-moe", set: number(func(o *options, n uint64) { o.cpuExperts = max(o.cpuExperts, n) })},

	{names: "-dev --device", set: func(o *options, value string) {
		o.noDevice, o.choosesGPUs = value == "none", true
		if n, ok := deviceIndex(value); ok && !strings.Contains(value, ",") {
			o.single, o.mainGPU = true, n
		}
		o.setUncertain("--device", reasonIf(strings.Contains(value, ","), "spreads the model over several GPUs"))
	}},
	{names: "-mg --main-gpu", set: number(func(o *options, n uint64) { o.mainGPU, o.choosesGPUs = int(min(n, maxSlots)), true })},
	{names: "-sm --split-mode", set: func(o *options, value string) {
		o.single, o.choosesGPUs = o.single || value == "none", true
		o.setUncertain("--split-mode", reasonIf(value == "row" || value == "tensor", "spreads every tensor over several GPUs"))
	}},
	{names: "--spec-type", set: func(o *options, value string) {
		o.loadsDraftLayers = strings.Contains(value, "mtp")
		o.setUncertain("--spec-type", reasonIf(strings.Contains(value, "draft"), "makes a second cache"))
	}},
	{names: "--mmproj-offload", on: func(o *options) { o.projectorOnCPU = false }},
	{names: "--no-mmproj-offload", on: func(o *options) { o.projectorOnCPU = true }},
	uncertainFlag("-mm --mmproj", "loads a projector"),
	{names: "-ts --tensor-split", set: func(o *options, value string) {
		o.choosesGPUs = true
		o.setUncertain("--tensor-split", reasonIf(value != "", "spreads the model over several GPUs"))
	}},
	uncertainFlag("-ot --override-tensor", "moves tensors"),
	uncertainFlag("-ncffn --n-cpu-ffn", "keeps weights in the CPU's memory"),
	uncertainFlag("--moe-cache-mib", "makes a cache of experts"),
	uncertainFlag("-md --spec-draft-model --model-draft", "loads a second model"),
	uncertainFlag("-hfd -hfrd --spec-draft-hf --hf-repo-draft", "loads a second model"),
	uncertainFlag("--lora-scaled --lora", "loads an adapter"),
	uncertainFlag("--control-vector-scaled --control-vector", "loads a control vector"),
	uncertainFlag("--rpc", "moves layers to other machines"),
	uncertainFlag("--override-kv", "changes the model's metadata"),
}

var flagsByName = func() map[string]flag {
	byName := map[string]flag{}
	for _, f := range flags {
		for name := range strings.FieldsSeq(f.names) {
			byName[name] = f
		}
	}
	return byName
}()

// uncertainFlag returns a flag with a value that changes the sum by an unknown amount.
func uncertainFlag(names, reason string) flag {
	long := names[strings.LastIndex(names, " ")+1:]
	return flag{names: names, set: func(o *options, value string) { o.setUncertain(long, reasonIf(value != "", reason)) }}
}

// reasonIf returns the reason if it applies, else "".
func reasonIf(applies bool, reason string) string {
	if applies {
		return reason
	}
	return ""
}

// number parses a flag's value as a whole number and ignores any other.
func number(set func(o *options, n uint64)) func(*options, string) {
	return func(o *options, value string) {
		if n, ok := parseNumber(value); ok {
			set(o, n)
		}
	}
}

// setType ignores types that llama-server does not know.
func setType(t *cacheType, value string) {
	if known, ok := cacheTypes[value]; ok {
		*t = known
	}
}

// deviceIndex returns the number at the end of a device's name (CUDA1).
func deviceIndex(name string) (n int, ok bool) {
	digits := name[len(strings.TrimRight(name, "0123456789")):]
	v, ok := parseNumber(digits)
	return int(min(v, maxSlots)), ok && digits != name
}

// isFalsy reports whether a value of on, off or auto is off (is_falsey in common/arg.cpp).
func isFalsy(value string) bool {
	switch value {
	case "off", "disabled", "false", "0":
		return true
	}
	return false
}
