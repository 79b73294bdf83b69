package modelfiles

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models/gguf"
)

const (
	// maxDepth is how many levels below a folder are read: publisher, repository, and in some of
	// these a folder for each quantisation.
	maxDepth = 3
	// maxEntries limits the directory entries that are read: a model may be in a folder with
	// everything of a user.
	maxEntries = 20_000
)

// file is a GGUF file, or all parts of a split model.
type file struct {
	model   string // identifies it: its path without links, and without what marks a part
	path    string // as it was found; of a split model, the first part that is there
	parts   int
	size    uint64 // bytes, of all parts
	version string // changes when a part does
}

// find returns the files in some folders, sorted by path. Links to files are followed, and
// those to folders are not. incomplete is why some are missing.
func find(folders []string, until time.Time) (list []file, incomplete string) {
	byModel := map[string]*file{}
	seen := map[string]bool{} // files without links
	entries := 0
	for _, folder := range folders {
		folder = filepath.Clean(folder)
		if real, err := filepath.EvalSymlinks(folder); err == nil {
			folder = real
		}
		_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error { // the function returns no error but SkipAll
			entries++
			switch {
			case entries > maxEntries:
				incomplete = fmt.Sprintf("the folders have more than %d entries", maxEntries)
				return fs.SkipAll
			case time.Now().After(until):
				incomplete = fmt.Sprintf("the folders were not read within %s", readTimeout)
				return fs.SkipAll
			case err != nil: // it cannot be read, or is gone
				return skipped(entry)
			case entry.IsDir() && path != folder && (strings.HasPrefix(entry.Name(), ".") || depth(folder, path) > maxDepth):
				return fs.SkipDir
			case !entry.IsDir() && isGGUF(path):
				add(byModel, seen, path)
			}
			return nil
		})
	}
	for _, f := range byModel {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	return list, incomplete
}

func skipped(entry fs.DirEntry) error {
	if entry != nil && entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func isGGUF(path string) bool { return strings.EqualFold(filepath.Ext(path), ".gguf") }

// depth returns how many levels a path is below a folder.
func depth(folder, path string) int {
	rest, err := filepath.Rel(folder, path)
	if err != nil {
		return 0
	}
	return strings.Count(rest, string(filepath.Separator)) + 1
}

// add adds a file, if it is a regular one or a link to one. WalkDir yields the parts of a
// model in their order.
func add(byModel map[string]*file, seen map[string]bool, path string) {
	info, err := os.Stat(path)
	real, model := identify(path)
	if err != nil || !info.Mode().IsRegular() || seen[real] {
		return
	}
	seen[real] = true
	f := byModel[model]
	if f == nil {
		f = &file{model: model, path: path}
		byModel[model] = f
	}
	f.parts++
	f.size += uint64(max(info.Size(), 0))
	f.version += fmt.Sprint(info.Size(), info.ModTime())
}

// identify returns the path of a file without links, and that of its model. A cache may
// store files under other names, so that the parts of a split model are known by the names
// that were found.
func identify(path string) (real, model string) {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path
	}
	folder, name := filepath.Split(path)
	if without, split := gguf.WithoutPart(name); split {
		if resolved, err := filepath.EvalSymlinks(folder); err == nil {
			folder = resolved
		}
		return real, filepath.Join(folder, without) + " in parts"
	}
	return real, real
}

// usedBy returns the models of some files.
func usedBy(paths []string) map[string]bool {
	used := map[string]bool{}
	for _, path := range paths {
		_, model := identify(path)
		used[model] = true
	}
	return used
}
