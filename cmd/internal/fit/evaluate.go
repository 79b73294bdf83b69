package fit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/vram"
)

// minContext is the smallest context that is recommended, in tokens.
const minContext = 2048

// Evaluate returns how a model fits a box. Nothing is said about whether it fits where the need is
// not known, or may be far lower: a server would start in any case then.
func Evaluate(m *vram.Model, r vram.Run, b Box) control.FitVariant {
	need, layers := m.Estimate(r), m.Layers()
	v := control.FitVariant{Uncertain: need.UncertainBecause, AllLayers: &layers, Places: []control.FitPlace{}}
	if !m.KnownArchitecture() {
		return v
	}
	total, driver := need.Total(), min(vram.Driver, need.Compute)
	buffers := need.Compute - driver
	v.WeightsBytes, v.CacheBytes, v.BuffersBytes, v.DriverBytes, v.NeedBytes = &need.Weights, &need.KV, &buffers, &driver, &total
	if places := b.places(r.Args); !need.Overestimated && len(places) > 0 {
		addPlaces(&v, places, m, r)
	}
	return v
}

// addPlaces adds how the model fits in some places, of which there is one at least.
func addPlaces(v *control.FitVariant, places []place, m *vram.Model, r vram.Run) {
	need := m.Estimate(r)
	context, layers, experts := 0, 0, -1
	for _, p := range places {
		where := p.describe(need)
		where.LargestContext = m.LargestContext(r, p.fits)
		v.Places = append(v.Places, where)
		context, layers = max(context, where.LargestContext), max(layers, m.MostLayers(r, p.fits))
		if n, ok := m.FewestCPUExperts(r, p.fits); ok && (experts < 0 || n < experts) {
			experts = n
		}
	}
	best := slices.MinFunc(v.Places, func(a, b control.FitPlace) int {
		return cmp.Or(cmp.Compare(rank(a.Fits), rank(b.Fits)), cmp.Compare(a.MissingBytes, b.MissingBytes))
	})
	v.Fits, v.Layers = best.Fits, &layers
	if m.Context() > 0 {
		v.LargestContext = &context
	}
	if experts >= 0 {
		v.CPUExperts = &experts
	}
	if v.Fits == control.FitsNot {
		v.Advice = advice(context, layers, experts)
	}
}

// rank returns a number that is lower the sooner a model fits.
func rank(fits string) int {
	return slices.Index([]string{control.FitsNow, control.FitsLater, control.FitsNot}, fits)
}

// advice returns the flags with any of which a model fits that does not.
func advice(context, layers, experts int) string {
	var flags []string
	if context >= minContext {
		flags = append(flags, fmt.Sprintf("--ctx-size %d", context))
	}
	if experts > 0 {
		flags = append(flags, fmt.Sprintf("--n-cpu-moe %d", experts))
	}
	if layers > 1 { // the output alone is of no use
		flags = append(flags, fmt.Sprintf("--n-gpu-layers %d", layers))
	}
	return strings.Join(flags, " or ")
}

// place is GPUs that a model is on: one, or several over which it is split.
type place []GPU

// places returns where a model can be: on each GPU alone, and split over all of them. With flags
// that put it on a single one it cannot be split.
func (b Box) places(args []string) (all []place) {
	for i := range b.GPUs {
		all = append(all, place(b.GPUs[i:i+1]))
	}
	if _, single := vram.SingleGPU(args); len(b.GPUs) > 1 && !single {
		all = append(all, place(b.GPUs))
	}
	return all
}

// each returns the need on each GPU, as the planner counts it.
func (p place) each(n vram.Need) uint64 { return n.Split(len(p)).Total() / uint64(len(p)) }

// fits reports whether a need has room once llmsup's other models have left.
func (p place) fits(n vram.Need) bool {
	return !slices.ContainsFunc(p, func(g GPU) bool { return p.each(n) > g.Usable })
}

func (p place) describe(n vram.Need) control.FitPlace {
	each := p.each(n)
	where := control.FitPlace{NeedBytes: each, Fits: control.FitsNow}
	for _, g := range p {
		where.GPUs = append(where.GPUs, g.Index)
		where.MissingBytes += each - min(each, g.Usable)
		if each > g.UsableNow && where.Fits == control.FitsNow {
			where.Fits = control.FitsLater
		}
	}
	if where.MissingBytes > 0 {
		where.Fits = control.FitsNot
	}
	return where
}
