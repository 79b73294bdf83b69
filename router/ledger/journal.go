package ledger

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	journalPattern = "ledger.journal-*.jsonl"
	// reserveSize is how much of the disk each journal file has reserved for rows of
	// paid calls, in bytes: some 2,500 of them fit.
	reserveSize = 1 << 20
)

// journal is the file that rows are appended to. It belongs to the writer's
// goroutine.
//
// Each file has its blocks allocated ahead, so that rows of paid calls have room on
// a full disk; the last reserveSize bytes are for them alone. A file is removed as
// soon as its rows are in the database. Attempts that have begun and not ended are
// in each file: the next one begins with them.
type journal struct {
	dir string
	run string // in the names of its files
	// writeAt is (*os.File).WriteAt, but in tests.
	writeAt func(f *os.File, b []byte, at int64) (int, error)

	file      *os.File     // nil = none
	size      int64        // of its whole lines
	allocated int64        // up to where the file has blocks on the disk
	rows      int          // in it
	entries   []*entry     // of these rows, unless they are over maxRows
	count     atomic.Int64 // files so far
	begun     map[int64]*queuedLine
	removed   []*journalFile // files with rows that another program has removed
}

// journalFile is a file that nothing is appended to any more.
type journalFile struct {
	path    string
	file    *os.File // nil = to be opened
	entries []*entry // its rows, if they are still in memory
	run     string   // which llmsup has written it, by its name
	live    bool     // this llmsup has: what has begun in it may still end
	last    bool     // of its run
	old     bool     // an earlier version has written it
	pending bool     // it has paid attempts of an earlier version
}

// prepare begins a file where there is none, or where it was removed.
func (j *journal) prepare() error {
	if j.file != nil && !wasRemoved(j.file) {
		return nil
	}
	previous := j.taken()
	next, err := j.newFile()
	if err == nil {
		err = j.begin(next)
	}
	if err == nil && previous != nil {
		j.removed = append(j.removed, previous)
	}
	return err
}

// waiting returns how many rows there are for the committer, or 1 for a file that was
// removed.
func (j *journal) waiting() int { return j.rows + len(j.removed) }

// note keeps account of what is in the file.
func (j *journal) note(i *queuedLine) {
	switch i.kind {
	case beginLine:
		j.begun[i.id] = i
		return
	case rowLine:
		j.rows++
		if len(j.entries) < maxRows {
			j.entries = append(j.entries, i.entry)
		}
		for _, id := range i.entry.Ends {
			delete(j.begun, id)
		}
	case endLine:
	}
	delete(j.begun, i.id)
}

// newFile creates the journal's next file, with blocks allocated. That can take long
// on a busy disk.
func (j *journal) newFile() (*journal, error) {
	makeFolder(j.dir)
	path := filepath.Join(j.dir, fmt.Sprintf("ledger.journal-%s-%012d.jsonl", j.run, j.count.Add(1)))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	next := &journal{file: f}
	if err := next.allocate(0); err != nil {
		next.remove()
		return nil, err
	}
	return next, nil
}

// begin makes a file that newFile has created the present one. It removes the previous
// one, unless that has rows: then the caller has it.
func (j *journal) begin(next *journal) error {
	var lines []byte
	for _, i := range j.begun {
		lines = append(lines, i.text...)
	}
	next.writeAt = j.writeAt
	err := next.allocate(int64(len(lines)))
	if err == nil {
		err = next.append(lines)
	}
	if err != nil {
		next.remove()
		return err
	}
	if j.file != nil && j.rows == 0 {
		j.remove()
	}
	j.file, j.size, j.allocated = next.file, next.size, next.allocated
	j.rows, j.entries = 0, nil
	return nil
}

// allocate reserves blocks for more bytes, and reserveSize beyond them.
func (j *journal) allocate(more int64) error {
	need := j.size + more + reserveSize
	if need <= j.allocated {
		return nil
	}
	size := need + reserveSize // not at each row
	switch err := ignoringEINTR(func() error { return unix.Fallocate(int(j.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size) }); {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return err
	case err != nil:
		j.allocated = math.MaxInt64 // the file system cannot allocate blocks ahead; there is no reserve
	default:
		j.allocated = size
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

// append appends lines. Where that fails, none of them counts as written.
func (j *journal) append(lines []byte) error {
	_, err := j.writeAt(j.file, lines, j.size)
	if err == nil {
		j.size += int64(len(lines))
		return nil
	}
	if info, statErr := j.file.Stat(); statErr == nil && info.Size() > j.size { // only then: it also gives the reserved blocks back
		_ = j.file.Truncate(j.size) // where that fails, the next line overwrites what is there
		j.allocated = j.size
	}
	return err
}

// taken returns the file for the committer; nil where it has no rows.
func (j *journal) taken() *journalFile {
	if j.file == nil || j.rows == 0 {
		return nil
	}
	file := &journalFile{path: j.file.Name(), file: j.file, live: true}
	if len(j.entries) == j.rows {
		file.entries = j.entries
	}
	return file
}

// rotate returns a file with rows, and makes next the present one; nil where there are
// no rows.
func (j *journal) rotate(next *journal) (*journalFile, error) {
	file := j.taken()
	if len(j.removed) > 0 {
		file = j.removed[0]
		j.removed = j.removed[1:]
		next.remove()
		return file, nil
	}
	if file == nil {
		next.remove()
		return nil, nil
	}
	return file, j.begin(next)
}

// close ends the journal, and returns the files that have rows. Where attempts have
// begun and not ended, a file with them stays for the next start.
func (j *journal) close() (files []*journalFile) {
	files = j.removed
	if j.file == nil {
		return files
	}
	file := j.taken()
	switch {
	case file == nil && len(j.begun) == 0:
		j.remove()
		return files
	case len(j.begun) > 0:
		if next, err := j.newFile(); file != nil && (err != nil || j.begin(next) != nil) {
			file = nil // the whole file stays
		}
		_ = j.file.Close()
	}
	if file != nil {
		files = append(files, file)
	}
	return files
}

// remove removes the file, which has nothing that is needed.
func (j *journal) remove() {
	if isNamed(j.file) {
		_ = os.Remove(j.file.Name())
	}
	_ = j.file.Close()
}

// wasRemoved says whether another program has removed a file, or its folder: then what
// is written to it is lost with this process.
func wasRemoved(f *os.File) bool {
	var info unix.Stat_t
	return unix.Fstat(int(f.Fd()), &info) != nil || info.Nlink == 0
}

// isNamed says whether a file is still the one of its name.
func isNamed(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(info, named)
}

// makeFolder creates the ledger's folder where another program has removed it. Its
// error is that of opening a file there.
func makeFolder(dir string) { _ = os.Mkdir(dir, 0o700) }
