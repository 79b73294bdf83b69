package fit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// usual are the quantisations that are taken where nothing is known of the GPUs, the first that
// there is.
var usual = []string{"Q4_K_M", "UD-Q4_K_XL", "MXFP4", "MXFP4_MOE", "Q4_K_S", "IQ4_XS", "Q4_0", "Q5_K_M", "Q8_0"}

// choose returns which variant to take if the user names none, as an index, and why, as the end of a
// sentence: the largest that fits, up to Q8_0, since 16 bits need twice the VRAM and the time of
// Q8_0 for the same answers.
func choose(f control.Fit) (index int, why string) {
	index = -1
	for _, want := range []string{control.FitsNow, control.FitsLater} {
		for i, v := range f.Variants { // the smallest first
			if v.Fits == want && !unquantised(v) {
				index = i
			}
		}
		if index >= 0 {
			why = fmt.Sprintf("it is the largest that fits, with a context of %d tokens", f.CtxSize)
			if want == control.FitsLater {
				why += ", once llmsup's other models have left the GPU"
			}
			return index, why
		}
	}
	index = usualVariant(f.Variants)
	v := f.Variants[index]
	switch {
	case v.Fits == control.FitsNot && v.Advice != "":
		return index, fmt.Sprintf("none fits with a context of %d tokens, and it does with %s", f.CtxSize, v.Advice)
	case v.Fits == control.FitsNot:
		return index, fmt.Sprintf("none fits with a context of %d tokens, not even in part", f.CtxSize)
	case v.Fits != "":
		return index, "it fits"
	case v.Uncertain != "":
		return index, "it is the usual one, and whether it fits is not known: " + v.Uncertain
	case f.GPUProblem != "":
		return index, "it is the usual one, and there is no GPU to fit: " + f.GPUProblem
	}
	return index, "it is the usual one"
}

// usualVariant returns the usual one among some variants, else the smallest that was read.
func usualVariant(variants []control.FitVariant) int {
	for _, quantisation := range usual {
		if i := slices.IndexFunc(variants, func(v control.FitVariant) bool { return v.Problem == "" && v.Quantization == quantisation }); i >= 0 {
			return i
		}
	}
	return max(slices.IndexFunc(variants, func(v control.FitVariant) bool { return v.Problem == "" }), 0)
}

func unquantised(v control.FitVariant) bool {
	return strings.HasSuffix(v.Quantization, "16") || strings.HasSuffix(v.Quantization, "32")
}
