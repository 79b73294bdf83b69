package vram

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// options is what of llama-server's flags changes its need of VRAM.
type options struct {
	batch       uint64 // --batch-size, tokens
	ubatch      uint64 // --ubatch-size, tokens
	slots       uint64 // --parallel
	shared      *bool  // --kv-unified, --no-kv-unified; nil = neither
	unified     bool   // all slots share one cache
	typeK       cacheType
	typeV       cacheType
	cpuExperts  uint64 // of so many layers, from the first, the experts stay in the CPU's memory
	noKVOffload bool
	noOpOffload bool
	noDevice    bool
	windowFull  bool // --swa-full
	flashOff    bool
	fitOff      bool
	drafts      bool // layers that guess tokens ahead are loaded

	projectorOnCPU bool
	doubts         map[string]string // by flag, why it makes the estimate unsure
	unsure         string            // one of them
	less           bool              // one of them takes something out of the VRAM

	single  bool // the model goes to one GPU alone
	mainGPU int  // that one, as llama-server counts those that it sees
}

// lessening are the flags that take something out of the VRAM, nobody can tell
// how much.
var lessening = []string{"--override-tensor", "--n-cpu-ffn", "--rpc", "--override-kv"}

// Shared says whether all slots of a llama-server with these flags share one
// context, of which each may use all.
func Shared(args []string) bool { return parseArgs(args).unified }

// Single says whether a llama-server with these flags puts the model on one GPU
// alone, and on which of those that it sees.
func Single(args []string) (index int, ok bool) {
	o := parseArgs(args)
	return o.mainGPU, o.single
}

// parseArgs reads llama-server's command line as llama-server does: a value is an
// argument of its own (--flag=value is an error to it), long flags may have
// underscores, and of two the last one wins. What it would refuse is passed over.
func parseArgs(args []string) options {
	f16 := cacheTypes["f16"]
	o := options{batch: 2048, ubatch: 512, typeK: f16, typeV: f16, doubts: map[string]string{}}
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

// resolve settles what several flags decide together.
func (o *options) resolve() {
	switch {
	case o.slots == 0: // llama-server chooses, and lets them share, --no-kv-unified or not
		o.slots, o.unified = 4, true
	case o.shared != nil:
		o.unified = *o.shared
	}
	o.ubatch = cmp.Or(o.ubatch, o.batch) // 0 = as large as a batch
	if o.projectorOnCPU {
		delete(o.doubts, "--mmproj")
	}
	for _, name := range slices.Sorted(maps.Keys(o.doubts)) {
		o.less = o.less || slices.Contains(lessening, name)
		o.unsure = cmp.Or(o.unsure, o.doubts[name])
	}
}

// doubt notes why a flag, under its long name, makes the estimate unsure, or,
// with reason "", that it does not any more.
func (o *options) doubt(name, reason string) {
	if reason == "" {
		delete(o.doubts, name)
		return
	}
	o.doubts[name] = name + " " + reason
}

// whole reads a number as C++'s stoi does: up to the first character that is no
// digit. ok is false for what it refuses, and for negative numbers.
func whole(value string) (n uint64, ok bool) {
	value = strings.TrimPrefix(strings.TrimLeft(value, " \t\n\v\f\r"), "+")
	end := 0
	for end < len(value) && '0' <= value[end] && value[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(value[:end], 10, 64)
	return n, err == nil && n <= math.MaxInt32
}
