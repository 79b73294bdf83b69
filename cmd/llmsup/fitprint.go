package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
)

// fit prints how the quantisations of a model fit.
func (p *page) fit(f control.Fit) {
	about := printable(f.Model)
	if f.Name != "" {
		about += ": " + printable(f.Name)
	}
	if f.Architecture != "" {
		about += ", architecture " + printable(f.Architecture)
	}
	if f.Context != nil {
		about += fmt.Sprintf(", trained for %d tokens", *f.Context)
	}
	p.sentence("  ", "%s", about)
	for _, g := range f.GPUs {
		p.sentence("  ", "GPU %d: %s, %s of %s usable%s", g.Index, printable(g.Name), gpu.Size(*g.UsableBytes), gpu.Size(*g.TotalBytes), usableNow(g))
	}
	p.line("")
	p.table(fitRows(f), wordTable)
	p.line("")
	p.fitNotes(f)
}

// usableNow returns what is usable now, if that is less than later.
func usableNow(g control.FitGPU) string {
	if *g.UsableNowBytes == *g.UsableBytes {
		return ""
	}
	return fmt.Sprintf(", %s of them now", gpu.Size(*g.UsableNowBytes))
}

// fitRows returns the table. Columns without a value are left out.
func fitRows(f control.Fit) [][]string {
	head := []string{"QUANTISATION", "SIZE", "NEEDS"}
	for _, g := range f.GPUs {
		head = append(head, fmt.Sprintf("GPU %d", g.Index))
	}
	if len(f.GPUs) > 1 {
		head = append(head, "SPLIT")
	}
	if len(f.GPUs) > 0 {
		head = append(head, "CONTEXT")
	}
	layers, experts := lacksLayers(f), lacksExperts(f)
	if layers {
		head = append(head, "LAYERS")
	}
	if experts {
		head = append(head, "CPU-MOE")
	}
	rows := [][]string{head}
	for _, v := range f.Variants {
		row := []string{printable(v.Name), size(v.SizeBytes), size(v.NeedBytes)}
		if len(f.GPUs) > 0 {
			row = append(append(row, fitPlaces(v, len(f.GPUs))...), positiveOrDash(v.LargestContext))
		}
		if layers {
			row = append(row, layersOf(v))
		}
		if experts {
			row = append(row, positiveOrDash(v.CPUExperts))
		}
		rows = append(rows, row)
	}
	return rows
}

// lacksLayers reports whether a model does not fit with all of its layers.
func lacksLayers(f control.Fit) bool {
	return slices.ContainsFunc(f.Variants, func(v control.FitVariant) bool { return v.Layers != nil && *v.Layers < *v.AllLayers })
}

// lacksExperts reports whether a model fits with some of its experts in the CPU's memory only.
func lacksExperts(f control.Fit) bool {
	return slices.ContainsFunc(f.Variants, func(v control.FitVariant) bool { return v.CPUExperts != nil && *v.CPUExperts > 0 })
}

func layersOf(v control.FitVariant) string {
	switch {
	case v.Layers == nil || *v.Layers <= 1: // the output alone is of no use
		return "-"
	case *v.Layers == *v.AllLayers:
		return "all"
	}
	return fmt.Sprintf("%d of %d", *v.Layers, *v.AllLayers)
}

// fitPlaces returns how a variant fits on each of so many GPUs, and split over all of several.
func fitPlaces(v control.FitVariant, gpus int) []string {
	cells := slices.Repeat([]string{"-"}, gpus)
	if gpus > 1 {
		cells = append(cells, "-")
	}
	for i, place := range v.Places {
		switch place.Fits {
		case control.FitsNow:
			cells[i] = "fits"
		case control.FitsLater:
			cells[i] = "fits later"
		case control.FitsNot:
			cells[i] = "lacks " + gpu.Size(max(place.MissingBytes, 1<<20))
		}
	}
	return cells
}

func positiveOrDash(n *int) string {
	if n == nil {
		return "-"
	}
	return orDash(*n)
}

// fitNotes prints what the table does not show.
func (p *page) fitNotes(f control.Fit) {
	if i := slices.IndexFunc(f.Variants, func(v control.FitVariant) bool { return v.NeedBytes != nil }); i >= 0 {
		v := f.Variants[i]
		parts := fmt.Sprintf("%s for the cache, %s for buffers and %s for the driver", gpu.Size(*v.CacheBytes), gpu.Size(*v.BuffersBytes), gpu.Size(*v.DriverBytes))
		switch {
		case len(f.Variants) == 1:
			p.sentence("", "It needs %s for the weights, and with a context of %d tokens %s.", gpu.Size(*v.WeightsBytes), f.CtxSize, parts)
		case f.Choice != "": // they differ in their weights only
			p.sentence("", "NEEDS is for a context of %d tokens: the weights, %s.", f.CtxSize, parts)
		default:
			p.sentence("", "NEEDS is for a context of %d tokens.", f.CtxSize)
		}
	}
	switch {
	case lacksExperts(f):
		p.sentence("", "One that does not fit does with --ctx-size CONTEXT, --n-gpu-layers LAYERS or --n-cpu-moe CPU-MOE.")
	case lacksLayers(f):
		p.sentence("", "One that does not fit does with --ctx-size CONTEXT or --n-gpu-layers LAYERS.")
	}
	if f.Choice != "" {
		p.sentence("", "llmsup pull takes %s: %s.", printable(f.Choice), printable(f.ChoiceReason))
	}
	var said []string
	for _, v := range f.Variants {
		note := ""
		switch {
		case v.Problem != "":
			note = printable(v.Name) + ": " + v.Problem
		case v.Uncertain != "" && v.NeedBytes == nil:
			note = "What it needs is not known: " + v.Uncertain + "."
		case v.Uncertain != "":
			note = "What it needs may be far off: " + v.Uncertain + "."
		}
		if note != "" && !slices.Contains(said, note) {
			said = append(said, note)
			p.sentence("", "%s", printable(note))
		}
	}
	if len(f.GPUs) == 0 {
		p.sentence("", "Whether it fits is not known: %s. --vram 24GiB asks for a machine with such a GPU.", printable(strings.TrimSuffix(f.GPUProblem, ".")))
	}
}
