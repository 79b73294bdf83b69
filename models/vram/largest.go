package vram

import (
	"slices"
	"sort"
	"strconv"
)

// contextStep is what llama-server rounds a context up to a multiple of, in tokens.
const contextStep = 256

// LargestContext returns the largest --ctx-size with which the need of a run fits, in tokens,
// whatever CtxSize the run has; 0 = not even the smallest one. It is no larger than the
// context that the model was trained for, or that for each slot if they do not share one.
// Without a trained context in the header the result is 0.
func (m *Model) LargestContext(r Run, fits func(Need) bool) int {
	run, onGPU := m.run(r)
	most := int(run.Context)
	if !run.unified {
		most *= int(run.slots)
	}
	need := func(ctx int) Need {
		if !onGPU {
			return Need{}
		}
		return run.need(ctx)
	}
	if most == 0 || fits(need(most)) {
		return most
	}
	// The need grows with the context.
	steps := sort.Search(most/contextStep, func(i int) bool { return !fits(need((i + 1) * contextStep)) })
	return steps * contextStep
}

// MostLayers returns the largest --n-gpu-layers with which the need of a run fits, whatever
// GPULayers the run has; 0 = none. All layers are one more than the header's Layers.
func (m *Model) MostLayers(r Run, fits func(Need) bool) int {
	return sort.Search(m.Layers(), func(i int) bool {
		r.GPULayers = i + 1
		return !fits(m.Estimate(r))
	})
}

// FewestCPUExperts returns the smallest --n-cpu-moe with which the need of a run fits: of the first
// so many layers the experts stay in the CPU's memory. ok is false for a model without experts, and
// if it does not fit with all of them there.
func (m *Model) FewestCPUExperts(r Run, fits func(Need) bool) (layers int, ok bool) {
	if m.header.Experts == 0 {
		return 0, false
	}
	args := r.Args
	with := func(layers int) bool {
		r.Args = append(slices.Clip(args), "--n-cpu-moe", strconv.Itoa(layers))
		return fits(m.Estimate(r))
	}
	most := int(m.header.Layers)
	layers = sort.Search(most+1, with)
	return layers, layers <= most
}
