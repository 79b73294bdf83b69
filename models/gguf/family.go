package gguf

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"sync"
)

// Source is a file of a model that a server has.
type Source struct {
	io.ReaderAt
	Name string // for errors
	Size int64  // bytes
}

// Family reads the headers of models that differ in their quantisation only, as those of one
// repository do. Most of a header is the tokenizer, which they have in common: several megabytes
// are read once, and some 100 KiB for each further model. Its zero value is ready, and safe for
// concurrent use.
type Family struct {
	mu    sync.Mutex
	known []member
}

// member is a file that has been read.
type member struct {
	*part
	begin map[string]value // what its first bytes have of its metadata
}

// Read reads the header of a model from all of its files in order, without their weights. Files is
// nil. An error is one sentence with the file and what to do, and wraps that of the Source.
func (f *Family) Read(files []Source) (*Header, error) {
	names := make([]string, len(files))
	for i := range files {
		names[i] = files[i].Name
	}
	read := func(i int) (*part, error) {
		p, err := f.readPart(files[i])
		if err != nil {
			return nil, fmt.Errorf("read model %s: %w", files[i].Name, err)
		}
		return p, nil
	}
	p, err := joinParts(names, read)
	if err != nil {
		return nil, err
	}
	h, err := newHeader(p.version, p.metadata, p.tensors)
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", names[0], err)
	}
	return h, nil
}

func (f *Family) readPart(file Source) (*part, error) {
	first, err := file.first()
	if err != nil {
		return nil, err
	}
	start := newStream(bytes.NewReader(first), uint64(max(file.Size, 0)))
	begin, err := start.readMetadata()
	whole := func() (*part, error) {
		return parse(&readAhead{file: file, ahead: first, pos: int64(len(first)), size: 2 * firstRead}, file.Size)
	}
	if err == nil || begin.counts == (counts{}) { // all of the metadata is there, or it is not a model
		return whole()
	}
	f.mu.Lock()
	known := slices.Clone(f.known)
	f.mu.Unlock()
	for _, like := range known {
		if p, ok := readLike(file, begin, like); ok {
			return p, nil
		}
	}
	p, err := whole()
	if err == nil {
		f.mu.Lock()
		own := *p // joinParts adds tensors to the other
		own.tensors = slices.Clip(p.tensors)
		f.known = append(f.known, member{&own, begin.metadata})
		f.mu.Unlock()
	}
	return p, err
}

// readLike reads the end of a file's header at the place where that of a known one is. ok is false
// if its metadata is not that of the known one: the entries before or after the tokenizer differ,
// or the descriptions of the same tensors are not at this place. Of all that may be found there,
// only these describe data that ends where the file does.
func readLike(file Source, begin *part, like member) (p *part, ok bool) {
	if begin.version != like.version || begin.counts != like.counts || uint64(file.Size) < like.tensorsAt || !sameEntries(begin.metadata, like.begin) {
		return nil, false
	}
	s := newStream(&readAhead{file: file, pos: int64(like.tail.at), size: firstRead}, uint64(file.Size))
	s.pos = like.tail.at
	end, _ := readMetadata(s, like.tail.entries)
	if s.err != nil || s.pos != like.tensorsAt {
		return nil, false
	}
	p = &part{version: like.version, counts: like.counts, tail: like.tail, tensorsAt: like.tensorsAt, metadata: maps.Clone(like.metadata)}
	maps.Copy(p.metadata, begin.metadata)
	maps.Copy(p.metadata, end)
	if !sameEntries(p.metadata, like.metadata) {
		return nil, false
	}
	want, err := p.readTensors(s)
	align, _ := alignment(p.metadata) // readTensors has checked it
	sameTensor := func(a, b Tensor) bool { return a.Name == b.Name && slices.Equal(a.Dims, b.Dims) }
	return p, err == nil && pad(want, align) >= uint64(file.Size) && slices.EqualFunc(p.tensors, like.tensors, sameTensor)
}

// sameEntries reports whether two files have the same entries, whatever their quantisation.
func sameEntries(a, b map[string]value) bool {
	same := func(key string) bool { return key == fileType || reflect.DeepEqual(a[key], b[key]) }
	for key := range a {
		if _, both := b[key]; !both || !same(key) {
			return false
		}
	}
	return len(a) == len(b)
}

// readAhead reads a file from a place on, more at once the longer it goes on: each read of a
// Source is a request.
type readAhead struct {
	file  Source
	pos   int64
	ahead []byte
	size  int
}

const (
	firstRead = 64 << 10
	mostRead  = 2 << 20
)

// first returns the first bytes of the file, which have the metadata before the tokenizer.
func (s Source) first() ([]byte, error) {
	p := make([]byte, min(firstRead, max(s.Size, 0)))
	if len(p) == 0 {
		return nil, nil
	}
	n, err := s.ReadAt(p, 0)
	if n == 0 {
		return nil, fmt.Errorf("at byte 0: %w", err)
	}
	return p[:n], nil
}

func (r *readAhead) Read(p []byte) (n int, err error) {
	if len(r.ahead) == 0 {
		r.ahead = make([]byte, min(int64(r.size), max(r.file.Size-r.pos, 0)))
		if len(r.ahead) == 0 {
			return 0, io.EOF
		}
		n, err := r.file.ReadAt(r.ahead, r.pos)
		if n < len(r.ahead) {
			r.ahead = r.ahead[:n]
			if n == 0 {
				return 0, err
			}
		}
		r.pos += int64(n)
		r.size = min(2*r.size, mostRead)
	}
	n = copy(p, r.ahead)
	r.ahead = r.ahead[n:]
	return n, nil
}
