package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
)

// MaxRows is how many rows of a segment are kept in memory for the committer. It
// commits as many at once.
const MaxRows = 4096

// Journal appends lines to its present segment. One goroutine, the ledger's writer,
// calls it; only NewSegment may be called by another at the same time.
//
// Attempts that have begun and not ended are in each segment: the next one begins with
// them, so that the previous file can be removed.
type Journal struct {
	dir, run string // run is in the names of the files
	writeAt  WriteAt

	present  *Segment // nil = none
	rows     int      // in it
	entries  []*Entry // of these rows, unless there are more than MaxRows
	segments atomic.Int64
	begun    map[int64]*Line
	removed  []*File // files with rows that another program removed
	buffer   []byte  // for the next write
}

// New returns the journal of one run of llmsup. It has no file yet.
func New(dir, run string, writeAt WriteAt) *Journal {
	return &Journal{dir: dir, run: run, writeAt: writeAt, begun: map[int64]*Line{}}
}

// Waiting returns how many rows there are for the committer, with 1 for each file that
// another program removed.
func (j *Journal) Waiting() int { return j.rows + len(j.removed) }

// Append appends lines. It returns how many of them are in the journal, and why the
// others are not. Only lines about paid calls may use the reserve of a full disk.
func (j *Journal) Append(lines []*Line, paid bool) (n int, err error) {
	if err := j.prepare(); err != nil {
		return 0, err
	}
	text := appendAll(j.buffer[:0], lines)
	if cap(text) <= maxBuffer {
		j.buffer = text
	}
	if err := j.present.allocate(len(text)); err != nil && !paid {
		return 0, err
	}
	defer func() {
		for _, line := range lines[:n] {
			j.note(line)
		}
	}()
	if err := j.present.append(text); err == nil {
		return len(lines), nil
	}
	for _, line := range lines { // some may have room
		if err := j.present.append(line.AppendTo(nil)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// maxBuffer bounds the memory that is kept for the next write, in bytes.
const maxBuffer = 64 << 10

func appendAll(text []byte, lines []*Line) []byte {
	for _, line := range lines {
		text = line.AppendTo(text)
	}
	return text
}

// prepare begins a segment if there is none, or if another program removed its file.
func (j *Journal) prepare() error {
	if j.present != nil && !j.present.wasRemoved() {
		return nil
	}
	previous := j.finished()
	next, err := j.NewSegment()
	if err == nil {
		err = j.begin(next)
	}
	if err == nil && previous != nil {
		j.removed = append(j.removed, previous)
	}
	return err
}

// note records what the present segment contains.
func (j *Journal) note(line *Line) {
	switch line.Kind {
	case BeginLine:
		j.begun[line.ID] = line
		return
	case RowLine:
		j.rows++
		if len(j.entries) < MaxRows {
			j.entries = append(j.entries, line.Entry)
		}
		for _, id := range line.Entry.Ends {
			delete(j.begun, id)
		}
	case EndLine:
	}
	delete(j.begun, line.ID)
}

// NewSegment creates the file that Rotate changes to. That can take long on a busy
// disk, so the committer calls it, and not the writer.
func (j *Journal) NewSegment() (*Segment, error) {
	MakeDir(j.dir)
	name := fmt.Sprintf("%s%s-%012d%s", prefix, j.run, j.segments.Add(1), suffix)
	return createSegment(filepath.Join(j.dir, name), j.writeAt)
}

// begin makes next the present segment, and writes the attempts that have begun to it.
// It removes the previous file if that has no rows; a caller of finished has it
// otherwise.
func (j *Journal) begin(next *Segment) error {
	var text []byte
	for _, line := range j.begun {
		text = line.AppendTo(text)
	}
	err := next.allocate(len(text))
	if err == nil {
		err = next.append(text)
	}
	if err != nil {
		next.remove()
		return err
	}
	if j.present != nil && j.rows == 0 {
		j.present.remove()
	}
	j.present, j.rows, j.entries = next, 0, nil
	return nil
}

// finished returns the present segment as a file for the committer; nil if it has no
// rows.
func (j *Journal) finished() *File {
	if j.present == nil || j.rows == 0 {
		return nil
	}
	file := &File{Path: j.present.file.Name(), file: j.present.file, ownRun: true}
	if len(j.entries) == j.rows {
		file.entries = j.entries
	}
	return file
}

// Rotate changes to the next segment, and returns the previous file for the committer;
// nil, and no change, if there are no rows.
func (j *Journal) Rotate(next *Segment) (*File, error) {
	file := j.finished()
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

// Close ends the journal, and returns the files that have rows. If attempts have begun
// and not ended, a file with them stays for the next start.
func (j *Journal) Close() (files []*File) {
	files = j.removed
	if j.present == nil {
		return files
	}
	file := j.finished()
	switch {
	case file == nil && len(j.begun) == 0:
		j.present.remove()
		return files
	case len(j.begun) > 0:
		if file != nil {
			if next, err := j.NewSegment(); err != nil || j.begin(next) != nil {
				file = nil // the whole file stays
			}
		}
		_ = j.present.file.Close()
	}
	if file != nil {
		files = append(files, file)
	}
	return files
}

// MakeDir creates the ledger's folder if another program removed it. Opening a file
// there reports the error.
func MakeDir(dir string) { _ = os.Mkdir(dir, 0o700) }
