package hub

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// Variant is a model in one quantisation.
type Variant struct {
	Quant string // such as Q4_K_M or UD-Q4_K_XL; "" where the name has none
	Files []File // all parts in order; llama-server gets the first
}

// Size returns the sum of the files in bytes; -1 = unknown.
func (v Variant) Size() (sum int64) {
	for _, f := range v.Files {
		if f.Size < 0 {
			return -1
		}
		sum += f.Size
	}
	return sum
}

// Name returns the quantisation, or for a file without one its name.
func (v Variant) Name() string {
	if v.Quant != "" {
		return v.Quant
	}
	return path.Base(v.Files[0].Path)
}

var partSuffix = regexp.MustCompile(`-(\d{5})-of-(\d{5})$`)

// partOf returns the path of a file without its extension and what marks a part of a split
// model, the number of the part from 1, and how many there are.
func partOf(file string) (stem string, number, count int) {
	stem = strings.TrimSuffix(file, path.Ext(file))
	m := partSuffix.FindStringSubmatch(stem)
	if m == nil {
		return stem, 1, 1
	}
	number, _ = strconv.Atoi(m[1]) // five digits
	count, _ = strconv.Atoi(m[2])
	return strings.TrimSuffix(stem, m[0]), number, count
}

// groupFiles makes models of files: the parts of a split model belong together. Split
// models with missing parts, and files that are part of other models, are left out.
func groupFiles(files []File) (variants []Variant, projectors []File) {
	type key struct {
		stem  string
		count int
	}
	parts := map[key][]File{}
	for _, f := range files {
		name := strings.ToLower(path.Base(f.Path))
		switch {
		case strings.Contains(name, "mmproj"):
			projectors = append(projectors, f)
		case isAuxiliary(name):
		default:
			stem, _, count := partOf(f.Path)
			parts[key{stem, count}] = append(parts[key{stem, count}], f)
		}
	}
	for k, list := range parts {
		slices.SortFunc(list, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
		_, first, _ := partOf(list[0].Path)
		_, last, _ := partOf(list[len(list)-1].Path)
		if first == 1 && last == k.count && len(list) == k.count {
			variants = append(variants, Variant{Quant: quantOf(k.stem), Files: list})
		}
	}
	slices.SortFunc(variants, func(a, b Variant) int {
		return cmp.Or(cmp.Compare(a.Size(), b.Size()), cmp.Compare(a.Files[0].Path, b.Files[0].Path))
	})
	slices.SortFunc(projectors, func(a, b File) int { return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Path, b.Path)) })
	return variants, projectors
}

// isAuxiliary reports whether a file only serves other models: an importance matrix, or a
// draft model for one of them. llama.cpp's common/download.cpp knows the same names.
func isAuxiliary(name string) bool {
	for _, mark := range []string{"imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"} {
		if strings.Contains(name, mark) {
			return true
		}
	}
	return false
}

// quantOf returns the quantisation in a path without its extension. Some repositories have it
// in the name of a folder only.
func quantOf(stem string) string {
	if quant := models.Quantization(path.Base(stem)); quant != "" {
		return quant
	}
	return models.Quantization(path.Base(path.Dir(stem)))
}

// Find returns the model that the reference names. ok is false if it names none and there
// are several: then the caller chooses.
func (l Listing) Find() (v Variant, ok bool, err error) {
	switch {
	case l.Ref.File != "":
		v, err = l.named("file "+l.Ref.File, func(v Variant) bool {
			return slices.ContainsFunc(v.Files, func(f File) bool { return f.Path == l.Ref.File })
		})
	case l.Ref.Quant != "":
		what := "quantisation " + l.Ref.Quant
		v, err = l.named(what, func(v Variant) bool { return v.Quant == l.Ref.Quant })
		if err != nil { // unsloth's dynamic quantisations have names of their own
			if w, other := l.named(what, func(v Variant) bool { return strings.TrimPrefix(v.Quant, "UD-") == l.Ref.Quant }); other == nil {
				return w, true, nil
			}
		}
	case len(l.Variants) == 1:
		v = l.Variants[0]
	default:
		return Variant{}, false, nil
	}
	return v, err == nil, err
}

// Projector returns the projector to use with the models: one with 16 bits, which all engines
// compute with and which loses nothing, else the smallest.
func (l Listing) Projector() (File, bool) {
	for _, quant := range []string{"F16", "FP16", "BF16"} {
		for _, f := range l.Projectors {
			if stem, _, _ := partOf(f.Path); quantOf(stem) == quant {
				return f, true
			}
		}
	}
	if len(l.Projectors) == 0 {
		return File{}, false
	}
	return l.Projectors[0], true
}

// named returns the only model for which match holds.
func (l Listing) named(what string, match func(Variant) bool) (Variant, error) {
	var found []Variant
	for _, v := range l.Variants {
		if match(v) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return Variant{}, permanentErrorf("%s has no %s; it has %s", l.Ref.name(), what, l.names())
	case 1:
		return found[0], nil
	}
	var paths []string
	for _, v := range found {
		paths = append(paths, fmt.Sprintf("hf:%s/%s/%s", l.Ref.Org, l.Ref.Repo, v.Files[0].Path))
	}
	return Variant{}, permanentErrorf("%s has several models of that %s; name one of them: %s", l.Ref.name(), what, strings.Join(paths, ", "))
}

// names returns the names of all models, for an error.
func (l Listing) names() string {
	var all []string
	for _, v := range l.Variants {
		if !slices.Contains(all, v.Name()) {
			all = append(all, v.Name())
		}
	}
	return strings.Join(all, ", ")
}
