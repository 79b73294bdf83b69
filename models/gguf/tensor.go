package gguf

import (
	"fmt"
	"math/bits"
)

// Tensor describes one array of weights.
type Tensor struct {
	Name  string     // "blk.0.attn_q.weight", "output.weight", ...
	Type  TensorType // the storage format
	Dims  []uint64   // elements along each dimension, at most four; the first is the length of a row
	Bytes uint64     // in the file; for an unknown type, up to the next tensor
}

// readTensors reads the tensors' descriptions, without their Bytes, and the offset of each
// one's data from the start of all data.
func readTensors(s *stream, count uint64) (tensors []Tensor, offsets []uint64) {
	for range count {
		t := Tensor{Name: s.tensorName()}
		t.Dims = s.dims(t.Name)
		t.Type = TensorType(s.u32())
		offset := s.u64()
		if s.err != nil {
			break
		}
		tensors, offsets = append(tensors, t), append(offsets, offset)
	}
	return tensors, offsets
}

func (s *stream) tensorName() string {
	n := s.u64()
	if !s.has(n) {
		return ""
	}
	if n == 0 || n > maxTensorName {
		s.damaged("a tensor's name is %d bytes long", n)
		return ""
	}
	p := make([]byte, n)
	s.fill(p)
	return string(p)
}

func (s *stream) dims(tensor string) []uint64 {
	n := s.u32()
	if n > maxDims {
		s.damaged("tensor %q has %d dimensions", tensor, n)
		return nil
	}
	dims := make([]uint64, n)
	for i := range dims {
		dims[i] = s.u64()
	}
	return dims
}

// placeTensors sets each tensor's size. It checks that the data is in the order of the
// descriptions, with each tensor padded to a multiple of align bytes, as llama.cpp requires,
// so that no byte counts twice. dataBytes is the size of the file without its header; the
// result is what it should be.
func placeTensors(tensors []Tensor, offsets []uint64, align, dataBytes uint64) (uint64, error) {
	var end uint64
	for i := range tensors {
		t, offset := &tensors[i], offsets[i]
		// end is at most maxTensors times maxTensorBytes, so that no sum overflows.
		if start := pad(end, align); offset != start {
			return 0, damaged("tensor %q is at byte %d of the data and not at %d", t.Name, offset, start)
		}
		size, err := t.size()
		if err != nil {
			return 0, err
		}
		if _, known := t.layout(); !known {
			next := max(offset, dataBytes)
			if i+1 < len(offsets) {
				next = offsets[i+1]
			}
			if next < offset {
				return 0, damaged("tensor %q is at byte %d of the data, before the one that it follows", tensors[i+1].Name, next)
			}
			size = next - offset
		}
		if size > maxTensorBytes {
			return 0, damaged("tensor %q has %d bytes", t.Name, size)
		}
		t.Bytes = size
		end = offset + size
	}
	return end, nil
}

// pad rounds n up to a multiple of align, which is a power of two.
func pad(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }

// layout returns the layout of the tensor's type; known is false for a type of unknown size.
func (t *Tensor) layout() (l layout, known bool) {
	l = layouts[t.Type]
	return l, l.bytes > 0
}

// elements returns the number of elements. It does not overflow once size has checked the
// dimensions.
func (t *Tensor) elements() uint64 {
	n := uint64(1) // a tensor without dimensions is a single number
	for _, d := range t.Dims {
		n *= d
	}
	return n
}

// size returns the tensor's size in bytes by its type and dimensions, 0 for an unknown type.
func (t *Tensor) size() (uint64, error) {
	elements := uint64(1) // a tensor without dimensions is a single number
	for _, d := range t.Dims {
		high, low := bits.Mul64(elements, d)
		// Each type needs at least a bit for an element.
		if high != 0 || low > maxTensorBytes*8 {
			return 0, damaged("tensor %q has the dimensions %v", t.Name, t.Dims)
		}
		elements = low
	}
	l, known := t.layout()
	if !known {
		return 0, nil
	}
	row := uint64(1)
	if len(t.Dims) > 0 {
		row = t.Dims[0]
	}
	if row%l.elements != 0 {
		return 0, damaged("tensor %q has the dimensions %v, but rows of %v come in blocks of %d", t.Name, t.Dims, t.Type, l.elements)
	}
	return elements / l.elements * l.bytes, nil
}

// missingBytes is the error for a file that is shorter than its tensors.
func missingBytes(size, want uint64) error {
	return fmt.Errorf("the file has %d bytes and should have %d: %d bytes are missing, the download is not complete; repeat it",
		size, want, want-size)
}
