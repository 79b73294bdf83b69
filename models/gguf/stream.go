package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// stream reads a header's little-endian values, within the file's size. After an error, all
// reads return zeros, so that callers check err once and not after each value.
type stream struct {
	r       *bufio.Reader
	pos     uint64 // bytes read
	end     uint64 // bytes that may be read: the file's size or maxHeader
	size    uint64 // of the file in bytes
	err     error
	scratch [maxKeptKey]byte
}

func newStream(r io.Reader, size uint64) *stream {
	buffer := int(min(size, 64<<10))
	return &stream{r: bufio.NewReaderSize(r, buffer), end: min(size, maxHeader), size: size}
}

// damaged is the error for an invalid header. Wrong and missing bytes cannot be
// distinguished here, and need the same remedy.
func damaged(format string, args ...any) error {
	return fmt.Errorf("the header is damaged or cut short (%s): download the file again", fmt.Sprintf(format, args...))
}

func (s *stream) damaged(format string, args ...any) {
	if s.err == nil {
		s.err = damaged(format, args...)
	}
}

// has reports whether n more bytes may be read, and fails the stream if not.
func (s *stream) has(n uint64) bool {
	switch {
	case s.err != nil:
		return false
	case n <= s.end-s.pos:
		return true
	case s.end < s.size:
		s.damaged("it is longer than %d MiB", maxHeader>>20)
	default:
		s.damaged("the file ends within it, after %d bytes", s.size)
	}
	return false
}

// readFailed records an error of the underlying reader.
func (s *stream) readFailed(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.damaged("the file ends within it, after %d bytes", s.pos)
		return
	}
	s.err = fmt.Errorf("at byte %d: %w", s.pos, err)
}

// fill reads len(p) bytes into p, or zeroes on failure.
func (s *stream) fill(p []byte) {
	if !s.has(uint64(len(p))) {
		clear(p)
		return
	}
	n, err := io.ReadFull(s.r, p)
	s.pos += uint64(n)
	if err != nil {
		clear(p)
		s.readFailed(err)
	}
}

func (s *stream) skip(n uint64) {
	if !s.has(n) {
		return
	}
	// n is at most maxHeader here, which fits into an int.
	skipped, err := s.r.Discard(int(n))
	s.pos += uint64(skipped)
	if err != nil {
		s.readFailed(err)
	}
}

func (s *stream) u32() uint32 {
	p := s.scratch[:4]
	s.fill(p)
	return binary.LittleEndian.Uint32(p)
}

func (s *stream) u64() uint64 {
	p := s.scratch[:8]
	s.fill(p)
	return binary.LittleEndian.Uint64(p)
}

// text reads a string and keeps its first limit bytes.
func (s *stream) text(limit uint64) string {
	n := s.u64()
	if !s.has(n) {
		return ""
	}
	p := make([]byte, min(n, limit))
	s.fill(p)
	s.skip(n - uint64(len(p)))
	return string(p)
}

func (s *stream) skipText() { s.skip(s.u64()) }

// key reads the key of a metadata entry. The bytes are valid until the next read, and nil
// for a key that is too long to be wanted.
func (s *stream) key() []byte {
	n := s.u64()
	switch {
	case !s.has(n):
		return nil
	case n == 0 || n > maxKey:
		s.damaged("a metadata key is %d bytes long", n)
		return nil
	case n > maxKeptKey:
		s.skip(n)
		return nil
	}
	p := s.scratch[:n]
	s.fill(p)
	return p
}
