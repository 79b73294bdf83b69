package journal

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// reserveSize is how much of the disk each segment has reserved for rows of paid calls,
// in bytes: about 2,500 of them fit.
const reserveSize = 1 << 20

// Segment is a journal file that is being written. Its blocks are allocated ahead, so
// that rows of paid calls have room on a full disk; the last reserveSize bytes are for
// them alone.
type Segment struct {
	file      *os.File
	writeAt   WriteAt
	size      int64 // of its whole lines
	allocated int64 // up to where the file has blocks on the disk
}

// WriteAt is (*os.File).WriteAt, except in tests.
type WriteAt func(f *os.File, b []byte, at int64) (int, error)

// createSegment creates a file with blocks allocated.
func createSegment(path string, writeAt WriteAt) (*Segment, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	s := &Segment{file: f, writeAt: writeAt}
	if err := s.allocate(0); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// allocate reserves blocks for n more bytes, and reserveSize beyond them.
func (s *Segment) allocate(n int) error {
	need := s.size + int64(n) + reserveSize
	if need <= s.allocated {
		return nil
	}
	size := need + reserveSize // more than needed, so that not each row allocates
	switch err := ignoringEINTR(func() error { return unix.Fallocate(int(s.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size) }); {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return err
	case err != nil:
		s.allocated = math.MaxInt64 // the file system cannot allocate blocks ahead: there is no reserve
	default:
		s.allocated = size
	}
	return nil
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// append appends lines: all of them, or none if it returns an error.
func (s *Segment) append(lines []byte) error {
	_, err := s.writeAt(s.file, lines, s.size)
	if err == nil {
		s.size += int64(len(lines))
		return nil
	}
	// Truncate only a file that grew: truncating releases the reserved blocks too.
	if info, statErr := s.file.Stat(); statErr == nil && info.Size() > s.size {
		_ = s.file.Truncate(s.size) // if that fails, the next line overwrites what is there
		s.allocated = s.size
	}
	return err
}

// remove removes the file.
func (s *Segment) remove() {
	if isNamed(s.file) {
		_ = os.Remove(s.file.Name())
	}
	_ = s.file.Close()
}

// wasRemoved returns whether another program removed the file or its folder: what is
// written to it is lost when llmsup ends.
func (s *Segment) wasRemoved() bool {
	var info unix.Stat_t
	return unix.Fstat(int(s.file.Fd()), &info) != nil || info.Nlink == 0
}

// isNamed returns whether the file's name still refers to it.
func isNamed(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(info, named)
}
