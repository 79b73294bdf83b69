package vram

import (
	"math"
	"strings"
)

// flag is one of llama-server's flags: set takes the value of one that has a
// value, on is for one that has none.
type flag struct {
	names string // separated by blanks
	on    func(o *options)
	set   func(o *options, value string)
}

// maxSlots is llama.cpp's LLAMA_MAX_SEQ.
const maxSlots = 256

// flags are those that matter here, with all their names (llama-server --help;
// common/arg.cpp). --ctx-size and --n-gpu-layers are not among them: Run has them.
var flags = []flag{
	{names: "-b --batch-size", set: number(func(o *options, n uint64) { o.batch = n })},
	{names: "-ub --ubatch-size", set: number(func(o *options, n uint64) { o.ubatch = n })},
	{names: "-np --parallel", set: func(o *options, value string) {
		if strings.HasPrefix(value, "-") {
			o.slots = 0 // chosen by llama-server
		} else if n, ok := whole(value); ok && n > 0 {
			o.slots = min(n, maxSlots)
		}
	}},
	{names: "-kvu --kv-unified", on: func(o *options) { o.shared = new(true) }},
	{names: "-no-kvu --no-kv-unified", on: func(o *options) { o.shared = new(false) }},
	{names: "-ctk --cache-type-k", set: func(o *options, value string) { setType(&o.typeK, value) }},
	{names: "-ctv --cache-type-v", set: func(o *options, value string) { setType(&o.typeV, value) }},
	{names: "-kvo --kv-offload", on: func(o *options) { o.noKVOffload = false }},
	{names: "-nkvo --no-kv-offload", on: func(o *options) { o.noKVOffload = true }},
	{names: "--op-offload", on: func(o *options) { o.noOpOffload = false }},
	{names: "--no-op-offload", on: func(o *options) { o.noOpOffload = true }},
	{names: "--swa-full", on: func(o *options) { o.windowFull = true }},
	{names: "-fa --flash-attn", set: func(o *options, value string) { o.flashOff = falsy(value) }},
	{names: "-fit --fit", set: func(o *options, value string) { o.fitOff = falsy(value) }},
	// Each of these adds to what the others keep in the CPU's memory.
	{names: "-cmoe --cpu-moe", on: func(o *options) { o.cpuExperts = math.MaxUint64 }},
	{names: "-ncmoe --n-cpu-moe", set: number(func(o *options, n uint64) { o.cpuExperts = max(o.cpuExperts, n) })},

	{names: "-dev --device", set: func(o *options, value string) {
		o.noDevice = value == "none"
		if n, ok := trailing(value); ok && !strings.Contains(value, ",") {
			o.single, o.mainGPU = true, n
		}
		o.doubt("--device", when(strings.Contains(value, ","), "spreads the model over several GPUs"))
	}},
	{names: "-mg --main-gpu", set: number(func(o *options, n uint64) { o.mainGPU = int(min(n, maxSlots)) })},
	{names: "-sm --split-mode", set: func(o *options, value string) {
		o.single = o.single || value == "none"
		o.doubt("--split-mode", when(value == "row" || value == "tensor", "spreads every tensor over several GPUs"))
	}},
	{names: "--spec-type", set: func(o *options, value string) {
		o.drafts = strings.Contains(value, "mtp")
		o.doubt("--spec-type", when(strings.Contains(value, "draft"), "makes a second cache"))
	}},
	{names: "--mmproj-offload", on: func(o *options) { o.projectorOnCPU = false }},
	{names: "--no-mmproj-offload", on: func(o *options) { o.projectorOnCPU = true }},
	unsure("-mm --mmproj", "loads a projector"),
	unsure("-ts --tensor-split", "spreads the model over several GPUs"),
	unsure("-ot --override-tensor", "moves tensors"),
	unsure("-ncffn --n-cpu-ffn", "keeps weights in the CPU's memory"),
	unsure("--moe-cache-mib", "makes a cache of experts"),
	unsure("-md --spec-draft-model --model-draft", "loads a second model"),
	unsure("-hfd -hfrd --spec-draft-hf --hf-repo-draft", "loads a second model"),
	unsure("--lora-scaled --lora", "loads an adapter"),
	unsure("--control-vector-scaled --control-vector", "loads a control vector"),
	unsure("--rpc", "moves layers to other machines"),
	unsure("--override-kv", "changes what the model says of itself"),
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

// unsure is a flag with a value that changes the sum in a way that can't be told.
func unsure(names, reason string) flag {
	long := names[strings.LastIndex(names, " ")+1:]
	return flag{names: names, set: func(o *options, value string) { o.doubt(long, when(value != "", reason)) }}
}

// when is the reason where it applies, else none.
func when(applies bool, reason string) string {
	if applies {
		return reason
	}
	return ""
}

// number is a flag's value that is a whole number; any other is passed over.
func number(set func(o *options, n uint64)) func(*options, string) {
	return func(o *options, value string) {
		if n, ok := whole(value); ok {
			set(o, n)
		}
	}
}

// setType leaves the type as it is where llama-server knows no such type.
func setType(t *cacheType, value string) {
	if known, ok := cacheTypes[value]; ok {
		*t = known
	}
}

// trailing reads the number at the end of a device's name (CUDA1).
func trailing(name string) (n int, ok bool) {
	digits := name[len(strings.TrimRight(name, "0123456789")):]
	v, ok := whole(digits)
	return int(min(v, maxSlots)), ok && digits != name
}

// falsy says whether a value of on, off or auto is off (is_falsey in common/arg.cpp).
func falsy(value string) bool {
	switch value {
	case "off", "disabled", "false", "0":
		return true
	}
	return false
}
