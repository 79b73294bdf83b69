package hub

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// partialSuffix is added to a file's name until it is whole and verified, so that nothing takes it
// for a model.
const partialSuffix = ".part"

// partial is a file that is being downloaded in pieces. After the room for the file's own
// bytes it has one counter for each piece, the bytes of it that are there, and a footer. A
// counter is written after the bytes that it counts, so that a process that is killed at any
// time leaves a file that can be continued. When all is there, counters and footer are
// cut off; a file of exactly the right size is whole.
//
// The process that writes to it holds a lock on it, which the kernel releases with the process.
type partial struct {
	file  *os.File
	path  string // with the suffix
	size  int64
	piece int64
	done  []atomic.Int64 // bytes of each piece
	sum   *atomic.Int64  // is kept at the bytes of this and other files
}

// footer is the end of the file of a partial.
type footer struct {
	Magic    [8]byte
	Size     int64
	Piece    int64
	Identity [sha256.Size]byte // of what is downloaded
}

var (
	footerMagic = [8]byte{'l', 'l', 'm', 's', 'u', 'p', 1, '\n'}
	footerSize  = int64(binary.Size(footer{}))
)

const counterSize = 8

func pieces(size, piece int64) int64 { return (size + piece - 1) / piece }

// identity returns what the bytes of a partial belong to. ok is false if that is unknown, so
// that they must not be continued.
func (f File) identity() (id [sha256.Size]byte, ok bool) {
	switch {
	case f.Size < 0:
		return id, false
	case f.SHA256 != "":
		return sha256.Sum256([]byte(f.SHA256)), true
	case f.validator != "":
		return sha256.Sum256([]byte(f.URL + "\n" + f.validator)), true
	}
	return sha256.Sum256([]byte(f.URL)), f.ref.URL == "" // a hub's URL has the commit
}

var errLocked = errors.New("another process downloads it")

// lockPartial opens the partial of a file and locks it, or returns errLocked.
func lockPartial(path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644) //nolint:gosec // a service of another user reads models
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			opened, errOpened := file.Stat()
			current, errCurrent := os.Lstat(path)
			if errOpened == nil && errCurrent == nil && os.SameFile(opened, current) {
				return file, nil
			} // its last owner renamed or removed it
		}
		_ = file.Close()
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, errLocked
		case err != nil && !errors.Is(err, unix.EINTR):
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// resume prepares a locked file for a download: it continues what is there of the same file, or
// starts anew.
func (p *partial) resume(f File, piece int64) error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	id, known := f.identity()
	found, counters := readFooter(p.file, info.Size())
	switch {
	case known && f.SHA256 != "" && info.Size() == f.Size: // whole, but for the check of its hash
		p.done = make([]atomic.Int64, 1)
		p.piece = f.Size
		p.add(0, f.Size)
		return nil
	case known && counters != nil && found.Identity == id && found.Size == f.Size:
		p.piece = found.Piece
		p.done = make([]atomic.Int64, len(counters))
		for i, n := range counters {
			p.add(i, n)
		}
		return nil
	}
	p.piece = piece
	p.done = make([]atomic.Int64, pieces(f.Size, piece))
	return p.create(footer{Magic: footerMagic, Size: f.Size, Piece: piece, Identity: id})
}

// create empties the file, writes the counters and the footer, and reserves the space.
func (p *partial) create(end footer) error {
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	trailer := make([]byte, counterSize*int64(len(p.done)))
	trailer, err := binary.Append(trailer, binary.LittleEndian, end)
	if err != nil {
		return err
	}
	if _, err := p.file.WriteAt(trailer, p.size); err != nil {
		return err
	}
	err = unix.Fallocate(int(p.file.Fd()), 0, 0, p.size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINTR) { // the space is taken when it is written
		return nil
	}
	return err
}

// readFooter reads the footer and the counters of a file; nil = it has none.
func readFooter(file *os.File, length int64) (end footer, counters []int64) {
	if length < footerSize {
		return end, nil
	}
	raw := make([]byte, footerSize)
	if _, err := file.ReadAt(raw, length-footerSize); err != nil {
		return end, nil
	}
	if _, err := binary.Decode(raw, binary.LittleEndian, &end); err != nil {
		return end, nil
	}
	if end.Magic != footerMagic || end.Size <= 0 || end.Piece <= 0 || end.Size > length || length != end.Size+counterSize*pieces(end.Size, end.Piece)+footerSize {
		return end, nil
	}
	raw = make([]byte, length-footerSize-end.Size)
	if _, err := file.ReadAt(raw, end.Size); err != nil {
		return end, nil
	}
	for i := int64(0); len(raw) > 0; i++ {
		n := int64(binary.LittleEndian.Uint64(raw))
		raw = raw[counterSize:]
		if n < 0 || n > min(end.Piece, end.Size-i*end.Piece) {
			return end, nil
		}
		counters = append(counters, n)
	}
	return end, counters
}

// write adds bytes to a piece.
func (p *partial) write(piece int, data []byte) error {
	done := p.done[piece].Load()
	if _, err := p.file.WriteAt(data, int64(piece)*p.piece+done); err != nil {
		return err
	}
	done += int64(len(data))
	counter := binary.LittleEndian.AppendUint64(nil, uint64(done))
	if _, err := p.file.WriteAt(counter, p.size+counterSize*int64(piece)); err != nil {
		return err
	}
	p.add(piece, int64(len(data)))
	return nil
}

// add counts bytes of a piece.
func (p *partial) add(piece int, n int64) {
	p.done[piece].Add(n)
	p.sum.Add(n)
}

// finish cuts off what is not of the file itself, once all of it is there, and gives it its
// name. It is on the disk then, so that a power failure leaves all of it or nothing.
func (p *partial) finish(path string) error {
	if p.size >= 0 {
		if err := p.file.Truncate(p.size); err != nil {
			return writeError(p.path, err)
		}
	}
	if err := p.file.Sync(); err != nil {
		return writeError(p.path, err)
	}
	if err := os.Rename(p.path, path); err != nil {
		return permanentError{err}
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return permanentError{err}
	}
	defer folder.Close()
	return folder.Sync()
}

// there returns how many bytes are there.
func (p *partial) there() (sum int64) {
	for i := range p.done {
		sum += p.done[i].Load()
	}
	return sum
}

// remove removes the file.
func (p *partial) remove() {
	_ = os.Remove(p.path) // best effort: the error that led here says more
}

// Partial is a download that was not finished.
type Partial struct {
	Path string // of the file that it becomes
	Done int64  // bytes
	Size int64  // bytes of the whole file; -1 = unknown
}

// maxDepth is how many levels below a folder partial files are searched: ORG/REPO/FOLDER.
const maxDepth = 3

// Partials returns the downloads in a folder that are not finished, those that run included.
func Partials(dir string) (all []Partial, err error) {
	dir = filepath.Clean(dir)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil:
			return nil
		case entry.IsDir() && strings.Count(path[len(dir):], string(filepath.Separator)) > maxDepth:
			return fs.SkipDir
		case entry.Type().IsRegular() && isGGUF(strings.TrimSuffix(path, partialSuffix)) && strings.HasSuffix(path, partialSuffix):
			all = append(all, describePartial(path))
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

func describePartial(path string) Partial {
	about := Partial{Path: strings.TrimSuffix(path, partialSuffix), Size: -1}
	file, err := os.Open(path)
	if err != nil {
		return about
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return about
	}
	end, counters := readFooter(file, info.Size())
	if counters == nil { // whole but for the check of its hash, or from a server without ranges
		about.Done = info.Size()
		return about
	}
	about.Size = end.Size
	for _, n := range counters {
		about.Done += n
	}
	return about
}

// Remove removes what there is of the file, unless a process downloads it.
func (p Partial) Remove() error {
	path := p.Path + partialSuffix
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	file, err := lockPartial(path)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("llmsup downloads %s at the moment: stop that first", p.Path)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer file.Close()
	return os.Remove(path)
}
