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
	use Use
}

func newTable(model string, use Use) *table {
	f := control.Fit{Model: model, CtxSize: use.Run.CtxSize, GPUs: use.Box.describe(), GPUProblem: use.Box.Problem, Variants: []control.FitVariant{}}
	return &table{Fit: f, use: use}
}

// add adds a variant whose header was read, or not; size is in bytes, negative = unknown.
func (t *table) add(name, quantisation string, files []string, size int64, h *gguf.Header, failure error) {
	v := control.FitVariant{Places: []control.FitPlace{}}
	if failure != nil {
		v.Problem = failure.Error()
	} else {
		v = Evaluate(vram.New(h), t.use.Run, t.use.Box)
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

// Local returns how models on this machine fit a use; name is what the user calls them. An error is
// one sentence.
func Local(name string, paths []string, use Use) (control.Fit, error) {
	t := newTable(name, use)
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
