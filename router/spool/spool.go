// Package spool keeps the large body of a request in a file. No other process can open the
// file, and the kernel deletes it however llmsup ends. The router makes one for each form that
// is too large for memory, so that the call can still be given to another backend. Package
// request reads it.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// Reserve is how many bytes are left free on the file's disk: the ledger may be on it too.
	Reserve = 256 << 20
	// checkEvery is after how many bytes the free space is read again.
	checkEvery = 32 << 20
	pieceSize  = 128 << 10
)

var (
	// ErrNoSpace is the error of a file for which the disk has too little free space.
	ErrNoSpace = errors.New("the disk has too little free space")
	// ErrFile is any other error of a file that is written.
	ErrFile = errors.New("cannot write a file")
)

// File is a file that is written once and then read, at any time by any number of readers.
type File struct {
	file      *os.File
	size      int64
	unchecked int64 // bytes that were written since the free space was read
}

// Create makes an empty file in a folder, for at least size bytes.
func Create(dir string, size int64) (*File, error) {
	opened, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("%w for a request's body: %w", ErrFile, err)
	}
	f := &File{file: opened}
	if err := f.checkSpace(size); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open opens a file without a name. Not every file system has such files (O_TMPFILE).
func open(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), "body"), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".body-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// checkSpace checks whether size bytes more leave Reserve bytes free.
func (f *File) checkSpace(size int64) error {
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(f.file.Fd()), &disk); err != nil {
		return fmt.Errorf("%w for a request's body: read the free space: %w", ErrFile, err)
	}
	if free := uint64(disk.Bsize) * disk.Bavail; free < uint64(max(size, 0))+Reserve {
		return ErrNoSpace
	}
	f.unchecked = 0
	return nil
}

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	if f.unchecked += int64(len(p)); f.unchecked > checkEvery {
		if err := f.checkSpace(int64(len(p))); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return n, ErrNoSpace
	}
	return n, fmt.Errorf("%w for a request's body: %w", ErrFile, err)
}

// ReadFrom implements io.ReaderFrom.
func (f *File) ReadFrom(r io.Reader) (n int64, err error) {
	return io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, make([]byte, pieceSize))
}

// Size returns how many bytes were written.
func (f *File) Size() int64 { return f.size }

// Section returns a reader of the bytes between two positions.
func (f *File) Section(from, to int64) io.Reader { return io.NewSectionReader(f.file, from, to-from) }

// Close deletes the file.
func (f *File) Close() { _ = f.file.Close() } // nothing of it is used any more
