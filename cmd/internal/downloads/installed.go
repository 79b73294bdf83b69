package downloads

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/hub"
)

// Installed is a model in the folder with the models, or a download that is not finished.
type Installed struct {
	Path  string   // of the model, of a split one its first part that is there
	Files []string // all parts that are there; none of what is not finished
	Bytes int64    // on the disk

	unfinished []hub.Partial
}

// Unfinished reports whether it is a download that is not finished.
func (m Installed) Unfinished() bool { return len(m.Files) == 0 }

// List returns the models in a folder, which is no link, and those below it, sorted by path.
// Hidden folders and links to folders are left out.
func List(dir string) (list []Installed, err error) {
	type key struct {
		path  string // without the number of the part
		parts int    // of the whole model; -1 = it is not split. x.gguf and x-00001-of-00002.gguf are two models
	}
	byModel := map[key]*Installed{}
	of := func(path string) *Installed {
		name, split := gguf.WithoutPart(filepath.Base(path))
		model := key{filepath.Join(filepath.Dir(path), name), -1}
		if split {
			model.parts = len(gguf.Parts(path))
		}
		if byModel[model] == nil {
			byModel[model] = &Installed{Path: path}
		}
		return byModel[model]
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && path != dir && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case entry.IsDir() || !strings.EqualFold(filepath.Ext(path), ".gguf"):
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		m := of(path)
		m.Files = append(m.Files, path)
		m.Bytes += info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the folder with the models: %w", err)
	}
	partials, err := hub.Partials(dir)
	if err != nil {
		return nil, fmt.Errorf("read the folder with the models: %w", err)
	}
	for _, p := range partials {
		m := of(p.Path)
		m.Bytes += p.Done
		m.unfinished = append(m.unfinished, p)
	}
	for _, m := range byModel {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Installed) int { return cmp.Compare(a.Path, b.Path) })
	return list, nil
}

// Named returns the models that a name, a path or a ref means: one, unless a name is that of
// several.
func Named(dir string, list []Installed, name string) (found []Installed) {
	absolute, err := filepath.Abs(name)
	if err != nil {
		absolute = name
	}
	if folder, err := filepath.EvalSymlinks(filepath.Dir(absolute)); err == nil {
		absolute = filepath.Join(folder, filepath.Base(absolute))
	}
	target := ""
	if ref, err := hub.ParseRef(name); err == nil {
		target, _ = Find(dir, ref.String())
	}
	for _, m := range list {
		relative, _ := filepath.Rel(dir, m.Path)
		base, _ := gguf.WithoutPart(filepath.Base(m.Path))
		names := []string{m.Path, relative, base, strings.TrimSuffix(base, filepath.Ext(base))}
		if target != "" && m.Path == target || slices.Contains(names, name) || slices.Contains(m.Files, absolute) || m.Path == absolute {
			found = append(found, m)
		}
	}
	return found
}

// Is reports whether a file is one of the model's, by whatever path.
func (m Installed) Is(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(m.Files, func(file string) bool {
		own, err := os.Stat(file)
		return err == nil && os.SameFile(own, info)
	})
}

// Remove removes the model's files, what is remembered of it, and the folders that are empty
// then. It removes nothing outside of dir, and no download that runs.
func (m Installed) Remove(dir string) error {
	for _, p := range m.unfinished { // first: one that runs is an error
		if err := p.Remove(); err != nil {
			return err
		}
	}
	for _, file := range m.Files { // the first part first: without it the others are no model
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove the model: %w; run the command as root, or as the user that llmsup runs as", err)
		}
	}
	for folder := filepath.Dir(m.Path); strings.HasPrefix(folder, dir+string(filepath.Separator)); folder = filepath.Dir(folder) {
		if os.Remove(folder) != nil { // it is not empty
			break
		}
	}
	return Forget(dir)
}
