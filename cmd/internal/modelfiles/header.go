package modelfiles

import (
	"path/filepath"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fit"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
)

// header is what is kept of a file's header.
type header struct {
	version string // of the file
	about   control.ModelFile
	model   *vram.Model // nil = it is none
	need    vram.Need
}

// readHeader reads the header of a file.
func readHeader(f file, r Request) header {
	h := header{version: f.version}
	read, err := gguf.Read(f.path)
	if err != nil {
		h.about.Kind = control.KindProjector
		if _, notProjector := gguf.ReadProjector(f.path); notProjector != nil {
			h.about.Kind, h.about.Problem = control.KindUnusable, strings.TrimPrefix(err.Error(), "read model "+f.path+": ")
		}
		return h
	}
	h.about = control.ModelFile{Kind: control.KindModel, Parameters: &read.Parameters}
	if read.FileType != gguf.FileTypeUnknown {
		h.about.Quantization = read.FileType.String()
	}
	if read.Context > 0 {
		h.about.Context = new(int(read.Context))
	}
	h.model = vram.New(read)
	h.need = h.model.Estimate(r.Run)
	if total := h.need.Total(); total > 0 && !h.need.Overestimated && h.model.KnownArchitecture() {
		h.about.NeedBytes = &total
	}
	h.about.Uncertain = h.need.UncertainBecause
	return h
}

// describe returns a file with what its header says.
func (f file) describe(h header, r Request) control.ModelFile {
	d := h.about
	d.Path, d.Parts, d.SizeBytes = f.path, f.parts, f.size
	d.Name = nameOf(f.path)
	if d.NeedBytes != nil {
		d.Placements = placements(h.need, r.Box.GPUs)
		d.LargestContext = fit.Evaluate(h.model, r.Run, r.Box).LargestContext
	}
	return d
}

// nameOf returns the name of a file's model.
func nameOf(path string) string {
	name, _ := gguf.WithoutPart(filepath.Base(path))
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// placements returns where a model could be loaded: on each GPU alone, and split over all.
func placements(need vram.Need, gpus []fit.GPU) (all []control.Placement) {
	on := func(gpus ...fit.GPU) (p control.Placement) {
		for _, g := range gpus {
			each := g.Planned(need.Split(len(gpus)).Total() / uint64(len(gpus)))
			p = append(p, control.PlacedOn{GPU: g.Index, NeedBytes: &each})
		}
		return p
	}
	for _, g := range gpus {
		all = append(all, on(g))
	}
	if len(gpus) > 1 {
		all = append(all, on(gpus...))
	}
	return all
}
