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

	counts    counts
	tail      tail
	tensorsAt uint64 // the byte at which the descriptions of the tensors begin
}

// counts are the numbers with which a file begins.
type counts struct{ tensors, entries uint64 }

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
	s := newStream(r, uint64(max(size, 0)))
	p, err := s.readMetadata()
	if err != nil {
		return nil, err
	}
	if _, err := p.readTensors(s); err != nil {
		return nil, err
	}
	return p, nil
}

// readMetadata reads a file up to the descriptions of its tensors. With an error the part has what
// could be read before it.
func (s *stream) readMetadata() (*part, error) {
	p := &part{}
	if s.size == 0 {
		return p, foreignError{errors.New("the file is empty: download it again")}
	}
	if err := checkMagic(s); err != nil {
		return p, err
	}
	p.version = s.u32()
	if s.err != nil {
		return p, s.err
	}
	if err := checkVersion(p.version); err != nil {
		return p, err
	}
	p.counts = counts{s.u64(), s.u64()}
	if p.counts.tensors > maxTensors {
		s.damaged("it counts %d tensors", p.counts.tensors)
	}
	if p.counts.entries > maxEntries {
		s.damaged("it counts %d metadata entries", p.counts.entries)
	}
	p.metadata, p.tail = readMetadata(s, p.counts.entries)
	p.tensorsAt = s.pos
	return p, s.err
}

// readTensors reads the descriptions of the tensors, and returns the size that the file should
// have.
func (p *part) readTensors(s *stream) (fileSize uint64, err error) {
	align, err := alignment(p.metadata)
	if err != nil {
		return 0, err
	}
	var offsets []uint64
	p.tensors, offsets = readTensors(s, p.counts.tensors)
	if s.err != nil {
		return 0, s.err
	}
	if len(p.tensors) == 0 {
		return s.pos, nil // a file with a vocabulary only, or a first part without tensors
	}
	start := pad(s.pos, align)
	data, err := placeTensors(p.tensors, offsets, align, s.size-min(start, s.size))
	if err != nil {
		return 0, err
	}
	if want := start + data; want > s.size {
		return 0, missingBytes(s.size, want)
	}
	return start + data, nil
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
