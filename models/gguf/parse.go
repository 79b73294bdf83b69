package gguf

import (
	"errors"
	"io"
	"math/bits"
)

// part is the content of one file: a whole model, or a part of a split one.
type part struct {
	version  uint32
	metadata map[string]value
	tensors  []Tensor
}

// Parse reads the header of one GGUF file of size bytes from r. It reads at most 64 KiB
// beyond the header. For a split model, pass the first file, which describes the model;
// Tensors has that file's tensors only. Errors are sentences without the file's name.
func Parse(r io.Reader, size int64) (*Header, error) {
	p, err := parse(r, size)
	if err != nil {
		return nil, err
	}
	return newHeader(p.version, p.metadata, p.tensors)
}

func parse(r io.Reader, size int64) (*part, error) {
	if size <= 0 {
		return nil, foreignError{errors.New("the file is empty: download it again")}
	}
	s := newStream(r, uint64(size))
	if err := checkMagic(s); err != nil {
		return nil, err
	}
	p := &part{version: s.u32()}
	if s.err != nil {
		return nil, s.err
	}
	if err := checkVersion(p.version); err != nil {
		return nil, err
	}
	tensors, entries := s.u64(), s.u64()
	if tensors > maxTensors {
		s.damaged("it counts %d tensors", tensors)
	}
	if entries > maxEntries {
		s.damaged("it counts %d metadata entries", entries)
	}
	p.metadata = readMetadata(s, entries)
	if s.err != nil {
		return nil, s.err
	}
	align, err := alignment(p.metadata)
	if err != nil {
		return nil, err
	}
	var offsets []uint64
	p.tensors, offsets = readTensors(s, tensors)
	if s.err != nil {
		return nil, s.err
	}
	if len(p.tensors) == 0 {
		return p, nil // a file with a vocabulary only, or a first part without tensors
	}
	start := pad(s.pos, align)
	data, err := placeTensors(p.tensors, offsets, align, s.size-min(start, s.size))
	if err != nil {
		return nil, err
	}
	if want := start + data; want > s.size {
		return nil, missingBytes(s.size, want)
	}
	return p, nil
}

// alignment returns the alignment of the tensors' data in bytes.
func alignment(metadata map[string]value) (uint64, error) {
	f := fields{metadata: metadata}
	align := uint64(f.number("general.alignment", 32))
	if f.err == nil && bits.OnesCount64(align) != 1 {
		return 0, damaged("general.alignment is %d, which is not a power of two", align)
	}
	return align, f.err
}
