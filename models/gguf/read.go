package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Read reads the header of the model at path. Of a split model any part may be
// named; all of them are read, and Files has their paths in order, of which
// llama-server wants the first.
//
// An error is one sentence that names the file and what to do. It wraps
// fs.ErrNotExist or fs.ErrPermission where that is the cause.
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
		if model, err = readParts(files); err != nil {
			return nil, err
		}
	}
	h, err := describe(model.version, model.metadata, model.tensors)
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", path, err)
	}
	h.Files = files
	return h, nil
}

// readPart reads one file's header.
func readPart(path string) (*part, error) {
	p, err := openPart(path)
	// Of os's errors only the cause is wanted: the path is named already.
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
	// Before opening, because to open a named pipe waits for its writer.
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

// split returns which part of how many the file is, counted from 0; the only one
// of one where it does not say.
func (p *part) split() (no, count uint32, err error) {
	f := fields{metadata: p.metadata}
	no, count = f.number("split.no", 0), max(f.number("split.count", 1), 1)
	if f.err == nil && (count > maxShards || no >= count) {
		f.damaged("it is part %d of %d", uint64(no)+1, count)
	}
	return no, count, f.err
}

var partName = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})\.gguf$`)

// partNames returns the paths of a split model's files, after the one of them
// that is at path.
func partNames(path string, no, count uint32) ([]string, error) {
	dir, name := filepath.Split(path)
	m := partName.FindStringSubmatch(name)
	if m == nil || m[2] != fmt.Sprintf("%05d", no+1) || m[3] != fmt.Sprintf("%05d", count) {
		return nil, fmt.Errorf("this is part %d of a model split in %d, and llama-server finds the others by name only: "+
			"give all of them their original names, which end in -%05d-of-%05d.gguf for this one", no+1, count, no+1, count)
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

// missingError is fs.ErrNotExist in words of its own.
type missingError struct{ error }

func (missingError) Is(target error) bool { return target == fs.ErrNotExist }

// readParts reads all files of a split model: the metadata of the first, which
// describes the model, and the tensors of all.
func readParts(files []string) (*part, error) {
	var model *part
	for i, path := range files {
		p, err := readPart(path)
		if err != nil {
			return nil, err
		}
		switch no, count, err := p.split(); {
		case err != nil:
			return nil, fmt.Errorf("read model %s: %w", path, err)
		case int(no) != i || int(count) != len(files):
			return nil, fmt.Errorf("read model %s: by its header this is part %d of %d: download it again under its own name", path, no+1, count)
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
		f.damaged("it counts %d tensors in all parts, which have %d", want, len(model.tensors))
	}
	if f.err != nil {
		return nil, fmt.Errorf("read model %s: %w", files[0], f.err)
	}
	return model, nil
}
