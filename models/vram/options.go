package vram

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/llmsup/llmsup/models/gguf"
)

// options are llama-server's flags that change its VRAM need.
type options struct {
	batch            uint64 // --batch-size, tokens
	ubatch           uint64 // --ubatch-size, tokens
	slots            uint64 // --parallel
	unifiedFlag      *bool  // --kv-unified, --no-kv-unified; nil = neither
	unified          bool   // all slots share one cache
	typeK            cacheType
	typeV            cacheType
	cpuExperts       uint64 // the first so many layers keep their experts in the CPU's memory
	noKVOffload      bool
	noOpOffload      bool
	noDevice         bool
	swaFull          bool // --swa-full
	flashOff         bool
	fitOff           bool
	loadsDraftLayers bool // layers that predict further tokens are loaded

	projectorOnCPU   bool
	uncertain        map[string]string // by flag, why it makes the estimate uncertain
	uncertainBecause string            // one of them
	overestimated    bool              // one of them moves weights out of the VRAM

	single  bool // the model goes to one GPU alone
	mainGPU int  // its index among the GPUs that llama-server sees

	choosesGPUs bool // a flag is about which GPUs the model is on
}

// reducingFlags move weights out of the VRAM. How much is unknown.
var reducingFlags = []string{"--override-tensor", "--n-cpu-ffn", "--rpc", "--override-kv"}

// SharedContext reports whether all slots of a llama-server with these flags share one
// context, so that each can use all of it.
func SharedContext(args []string) bool { return parseArgs(args).unified }

// SlotContext returns how many tokens one call may have, prompt and answer together, in a
// llama-server that is started with these flags and this --ctx-size; 0 = unknown.
// llama-server may round it up, or shrink it to what fits.
func SlotContext(h *gguf.Header, ctxSize int, args []string) int {
	o, trained := parseArgs(args), int(h.Context)
	ctx := ctxSize
	if ctx <= 0 {
		ctx = trained
	}
	if !o.unified {
		ctx /= int(o.slots)
	}
	if trained > 0 {
		ctx = min(ctx, trained)
	}
	return ctx
}

// SingleGPU reports whether a llama-server with these flags uses one GPU only, and the
// index of that GPU among those that it sees.
func SingleGPU(args []string) (index int, ok bool) {
	o := parseArgs(args)
	return o.mainGPU, o.single
}

// ChoosesGPUs reports whether one of llama-server's flags says on which GPUs the model is, or
// how it is split.
func ChoosesGPUs(args []string) bool { return parseArgs(args).choosesGPUs }

// parseArgs parses llama-server's command line as llama-server does: a value is an argument
// of its own (--flag=value is an error), long flags may have underscores, and the last of
// several equal flags applies. Arguments that llama-server would reject are ignored.
func parseArgs(args []string) options {
	f16 := cacheTypes["f16"]
	o := options{batch: 2048, ubatch: 512, typeK: f16, typeV: f16, uncertain: map[string]string{}}
	for i := 0; i < len(args); i++ {
		name := args[i]
		if strings.HasPrefix(name, "--") {
			name = strings.ReplaceAll(name, "_", "-")
		}
		f, known := flagsByName[name]
		switch {
		case !known:
		case f.on != nil:
			f.on(&o)
		case i+1 < len(args):
			i++
			f.set(&o, args[i])
		}
	}
	o.resolve()
	return o
}

// resolve sets what depends on several flags.
func (o *options) resolve() {
	switch {
	case o.slots == 0: // llama-server chooses, and shares the cache even with --no-kv-unified
		o.slots, o.unified = 4, true
	case o.unifiedFlag != nil:
		o.unified = *o.unifiedFlag
	}
	o.ubatch = cmp.Or(o.ubatch, o.batch) // 0 = as large as a batch
	if o.projectorOnCPU {
		delete(o.uncertain, "--mmproj")
	}
	for _, name := range slices.Sorted(maps.Keys(o.uncertain)) {
		o.overestimated = o.overestimated || slices.Contains(reducingFlags, name)
		o.uncertainBecause = cmp.Or(o.uncertainBecause, o.uncertain[name])
	}
}

// setUncertain records why a flag, by its long name, makes the estimate uncertain; "" removes
// the reason.
func (o *options) setUncertain(name, reason string) {
	if reason == "" {
		delete(o.uncertain, name)
		return
	}
	o.uncertain[name] = name + " " + reason
}

// parseNumber reads a number as C++'s stoi does: up to the first character that is not a
// digit. ok is false for what stoi rejects, and for negative numbers.
func parseNumber(value string) (n uint64, ok bool) {
	value = strings.TrimPrefix(strings.TrimLeft(value, " \t\n\v\f\r"), "+")
	end := 0
	for end < len(value) && '0' <= value[end] && value[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(value[:end], 10, 64)
	return n, err == nil && n <= math.MaxInt32
}
