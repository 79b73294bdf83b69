package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// Read reads the header of the model at path. For a split model, path may be any part. All
// parts are read, and Files has their paths in order; llama-server needs the first.
//
// An error is one sentence with the file and what to do. It wraps fs.ErrNotExist or
// fs.ErrPermission if that is the cause.
func Read(path string) (*Header, error) {
	p, err := readPart(path)
	if err != nil {
		return nil, err
	}
	no, count, err := p.split()
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", path, err)
	}
	files, model := []string{path}, p
	if count > 1 {
		if files, err = partNames(path, no, count); err != nil {
			return nil, fmt.Errorf("read model %s: %w", path, err)
		}
		if model, err = joinParts(files, func(i int) (*part, error) { return readPart(files[i]) }); err != nil {
			return nil, err
		}
	}
	h, err := newHeader(model.version, model.metadata, model.tensors)
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", path, err)
	}
	h.Files = files
	return h, nil
}

// readPart reads one file's header.
func readPart(path string) (*part, error) {
	p, err := openPart(path)
	// The message below has the path already.
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = fmt.Errorf("%w: check the path", err)
		case errors.Is(err, fs.ErrPermission):
			err = fmt.Errorf("%w: the user that llmsup runs as must be able to read it", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", path, err)
	}
	return p, nil
}

func openPart(path string) (*part, error) {
	// Checked first, since opening a named pipe would block until it has a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("this is a directory: name the .gguf file in it")
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("this is not a regular file: name a .gguf file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parse(file, info.Size())
}

// split returns the number of the part, from 0, and the number of parts; 0 and 1 if the file
// is not split.
func (p *part) split() (no, count uint32, err error) {
	f := fields{metadata: p.metadata}
	no, count = f.number("split.no", 0), max(f.number("split.count", 1), 1)
	if f.err == nil && (count > maxShards || no >= count) {
		f.damaged("it is part %d of %d", uint64(no)+1, count)
	}
	return no, count, f.err
}

var partName = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})\.gguf$`)

// WithoutPart returns the name of a file without what a part of a split model has at its end,
// such as "-00001-of-00003". split is false for other files.
func WithoutPart(name string) (model string, split bool) {
	if m := partName.FindStringSubmatch(name); m != nil {
		return m[1] + ".gguf", true
	}
	return name, false
}

// maxParts limits the paths that Parts derives from a name.
const maxParts = 1000

// Parts returns the paths of all parts of a model, by the name of any of them. It does not read
// the disk.
func Parts(path string) []string {
	dir, name := filepath.Split(path)
	m := partName.FindStringSubmatch(name)
	if m == nil {
		return []string{path}
	}
	count, _ := strconv.Atoi(m[3]) // five digits
	var parts []string
	for i := range min(count, maxParts) {
		parts = append(parts, filepath.Join(dir, fmt.Sprintf("%s-%05d-of-%s.gguf", m[1], i+1, m[3])))
	}
	return parts
}

// partNames returns the paths of all parts of a split model, derived from the path of one.
func partNames(path string, no, count uint32) ([]string, error) {
	dir, name := filepath.Split(path)
	m := partName.FindStringSubmatch(name)
	if m == nil || m[2] != fmt.Sprintf("%05d", no+1) || m[3] != fmt.Sprintf("%05d", count) {
		return nil, fmt.Errorf("this is part %d of a model that is split in %d, and llama-server finds the others by name only: "+
			"restore the original names; this one ends in -%05d-of-%05d.gguf", no+1, count, no+1, count)
	}
	files := make([]string, count)
	var missing []string
	for i := range files {
		name := fmt.Sprintf("%s-%05d-of-%s.gguf", m[1], i+1, m[3])
		files[i] = filepath.Join(dir, name)
		if _, err := os.Stat(files[i]); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
		}
	}
	switch {
	case len(missing) == 1:
		return nil, missingError{fmt.Errorf("the model is split in %d files, of which %s is missing: download it to the same folder", count, missing[0])}
	case len(missing) > 1:
		return nil, missingError{fmt.Errorf("the model is split in %d files, of which %s and %d more are missing: download them to the same folder",
			count, missing[0], len(missing)-1)}
	}
	return files, nil
}

// missingError is fs.ErrNotExist with another message.
type missingError struct{ error }

func (missingError) Is(target error) bool { return target == fs.ErrNotExist }

// joinParts reads all parts of a split model, which are files of these names: the metadata of the
// first, which describes the model, and the tensors of all.
func joinParts(files []string, read func(i int) (*part, error)) (*part, error) {
	var model *part
	for i, path := range files {
		p, err := read(i)
		if err != nil {
			return nil, err
		}
		switch no, count, err := p.split(); {
		case err != nil:
			return nil, fmt.Errorf("read model %s: %w", path, err)
		case int(no) != i || int(count) != len(files):
			return nil, fmt.Errorf("read model %s: by its header this is part %d of %d: download it again and keep its name", path, no+1, count)
		}
		if i == 0 {
			model = p
			continue
		}
		if len(model.tensors)+len(p.tensors) > maxTensors {
			return nil, fmt.Errorf("read model %s: %w", path, damaged("the parts so far have more than %d tensors", maxTensors))
		}
		model.tensors = append(model.tensors, p.tensors...)
	}
	f := fields{metadata: model.metadata}
	want := f.number("split.tensors.count", uint32(len(model.tensors)))
	if f.err == nil && int(want) != len(model.tensors) {
		f.damaged("the parts should have %d tensors and have %d", want, len(model.tensors))
	}
	if f.err != nil {
		return nil, fmt.Errorf("read model %s: %w", files[0], f.err)
	}
	return model, nil
}
