package fit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
)

// table is an answer that is being made.
type table struct {
	control.Fit
	run vram.Run
	box Box
}

func newTable(model string, r vram.Run, b Box) *table {
	f := control.Fit{Model: model, CtxSize: r.CtxSize, GPUs: b.describe(), GPUProblem: b.Problem, Variants: []control.FitVariant{}}
	return &table{Fit: f, run: r, box: b}
}

// add adds a variant whose header was read, or not; size is in bytes, negative = unknown.
func (t *table) add(name, quantisation string, files []string, size int64, h *gguf.Header, failure error) {
	v := control.FitVariant{Places: []control.FitPlace{}}
	if failure != nil {
		v.Problem = failure.Error()
	} else {
		v = Evaluate(vram.New(h), t.run, t.box)
		t.describe(h)
		if quantisation == "" && h.FileType != gguf.FileTypeUnknown { // its name does not say it
			quantisation = h.FileType.String()
		}
	}
	v.Name, v.Quantization, v.Files = name, quantisation, files
	if size >= 0 {
		v.SizeBytes = new(uint64(size))
	}
	t.Variants = append(t.Variants, v)
}

// describe sets what all variants have in common.
func (t *table) describe(h *gguf.Header) {
	if t.Architecture != "" {
		return
	}
	t.Name, t.Architecture, t.Parameters = h.Name, h.Architecture, &h.Parameters
	if h.Context > 0 {
		t.Context = new(int(h.Context))
	}
}

// Local returns how models on this machine fit a box; name is what the user calls them. An error is
// one sentence.
func Local(name string, paths []string, r vram.Run, b Box) (control.Fit, error) {
	t := newTable(name, r, b)
	for _, path := range paths {
		h, err := gguf.Read(path)
		if err != nil {
			return control.Fit{}, err
		}
		size := int64(0)
		for _, file := range h.Files {
			info, err := os.Stat(file)
			if err != nil {
				return control.Fit{}, fmt.Errorf("read model %s: %w", path, err)
			}
			size += info.Size()
		}
		file, _ := gguf.WithoutPart(filepath.Base(path))
		file = strings.TrimSuffix(file, filepath.Ext(file))
		t.add(file, models.Quantization(file), h.Files, size, h, nil)
	}
	return t.Fit, nil
}
