package gguf

import (
	"errors"
	"io"
	"math/bits"
)

// part is what one file holds: a whole model, or one of the files of a split one.
type part struct {
	version  uint32
	metadata map[string]value
	tensors  []Tensor
}

// Parse reads the header of one GGUF file of size bytes from r, which it reads
// to the end of the header at most (and up to 64 KiB further). Of a split model
// it takes only the first file, which describes the model; Tensors then has that
// file's share. Errors are whole sentences but for the file's name.
func Parse(r io.Reader, size int64) (*Header, error) {
	p, err := parse(r, size)
	if err != nil {
		return nil, err
	}
	return describe(p.version, p.metadata, p.tensors)
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
		return p, nil // a vocabulary, or a first part that holds nothing else
	}
	start := pad(s.pos, align)
	data, err := place(p.tensors, offsets, align, s.size-min(start, s.size))
	if err != nil {
		return nil, err
	}
	if want := start + data; want > s.size {
		return nil, missingBytes(s.size, want)
	}
	return p, nil
}

// alignment is what the start of each tensor is a multiple of, in bytes.
func alignment(metadata map[string]value) (uint64, error) {
	f := fields{metadata: metadata}
	align := uint64(f.number("general.alignment", 32))
	if f.err == nil && bits.OnesCount64(align) != 1 {
		return 0, damaged("general.alignment is %d, which is no power of two", align)
	}
	return align, f.err
}
