package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	spillPattern = "ledger.spill-*.jsonl"
	reserveName  = "ledger.spill-reserve.jsonl"
	// reserveSize is how much room of the disk is kept for rows that were paid for,
	// in bytes: some 2,500 of them fit.
	reserveSize = 1 << 20
	// maxLine bounds a line that is read back. A row with all its words at their
	// longest, and every byte escaped, is shorter.
	maxLine = 16 << 10
)

// spillLine is a row in a spill file: one line of JSON, whose checksum tells a
// line that was cut or overwritten.
type spillLine struct {
	Sum string          `json:"sum"` // CRC-32C of Row as it stands, 8 hex digits
	Row json.RawMessage `json:"row"`
}

type spillRow struct {
	ID    int64 `json:"id"`
	Time  int64 `json:"time"` // Unix milliseconds
	First int64 `json:"first_ms,omitempty"`
	Took  int64 `json:"ms"`
	Row
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(raw []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(raw, castagnoli)) }

// line writes a row as a line.
func (e *entry) line() []byte {
	raw, err := json.Marshal(spillRow{e.id, e.time, e.first, e.took, e.row()})
	if err != nil {
		panic(fmt.Sprintf("ledger: a row can't be written: %v", err)) // of words and figures all can
	}
	return fmt.Appendf(nil, `{"sum":"%s","row":%s}`+"\n", checksum(raw), raw)
}

// parseLine reads a line. ok is false for one that is not whole.
func parseLine(raw []byte) (e *entry, ok bool) {
	var line spillLine
	var row spillRow
	if json.Unmarshal(raw, &line) != nil || line.Sum != checksum(line.Row) || json.Unmarshal(line.Row, &row) != nil {
		return nil, false
	}
	row.Row.Time = time.UnixMilli(row.Time)
	row.Row.First, row.Row.Took = time.Duration(row.First)*time.Millisecond, time.Duration(row.Took)*time.Millisecond
	e = newEntry(&row.Row)
	e.id, e.kind = row.ID, new(kinds).of(&row.Row)
	return e, true
}

// spill is the files beside the database. Each is written from its beginning to
// its end by one llmsup and then only read, so that no line is ever put behind
// one that was cut. The reserve alone is written anew: its room is its own even on
// a full disk.
type spill struct {
	dir string
	// sync is (*os.File).Sync, but in tests.
	sync func(*os.File) error

	mu      sync.Mutex
	file    *os.File // that is written to; nil = none yet
	size    int64    // of it, as far as it is whole
	reserve *os.File // nil = there is no room for it either
	used    int64    // of the reserve
	unread  bool     // what an earlier llmsup has left in the reserve was not read back yet
}

// write appends rows, and returns when they are on the disk.
func (s *spill) write(entries []*entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil && !isNamed(s.file) {
		_ = s.file.Close()
		s.file = nil
	}
	if s.file == nil {
		makeFolder(s.dir)
		f, err := os.CreateTemp(s.dir, spillPattern)
		if err != nil {
			return err
		}
		if err := syncDir(s.dir); err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			return err
		}
		s.file, s.size = f, 0
	}
	var lines []byte
	for _, e := range entries {
		lines = append(lines, e.line()...)
	}
	_, err := s.file.WriteAt(lines, s.size)
	if err == nil {
		err = s.sync(s.file)
	}
	if err != nil {
		_ = s.file.Truncate(s.size) // what is there twice does no harm
		return err
	}
	s.size += int64(len(lines))
	return nil
}

// save writes as many rows into the reserve as there is room for, and returns how
// many those are.
func (s *spill) save(entries []*entry) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserve == nil || s.unread || !isNamed(s.reserve) {
		return 0
	}
	var lines []byte
	n := 0
	for _, e := range entries {
		line := e.line()
		if s.used+int64(len(lines)+len(line)) > reserveSize {
			break
		}
		lines = append(lines, line...)
		n++
	}
	if n == 0 {
		return 0
	}
	if _, err := s.reserve.WriteAt(lines, s.used); err != nil || s.sync(s.reserve) != nil {
		return 0
	}
	s.used += int64(len(lines))
	return n
}

// rotate ends the file that is written to, and returns all that there are, for
// reading. The reserve is the last one.
func (s *spill) rotate() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close() // what had to be on the disk is
		s.file = nil
	}
	found, err := filepath.Glob(filepath.Join(globQuote(s.dir), spillPattern))
	if err != nil {
		return nil, err
	}
	reserve := filepath.Join(s.dir, reserveName)
	var files []string
	for _, name := range found {
		if name != reserve {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	return append(files, reserve), nil
}

// globQuote makes a path a pattern that matches it alone.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// prepare takes the reserve's room, if it has not got it. What an earlier llmsup
// has left in it stays until it is cleared.
func (s *spill) prepare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserve != nil && isNamed(s.reserve) {
		return nil
	}
	if s.reserve != nil {
		_ = s.reserve.Close()
		s.reserve = nil
	}
	f, err := os.OpenFile(filepath.Join(s.dir, reserveName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// Written, and not only asked for: then it is there on every file system.
	info, err := f.Stat()
	if err == nil && info.Size() < reserveSize {
		if _, err = f.WriteAt(make([]byte, reserveSize-info.Size()), info.Size()); err == nil {
			err = errors.Join(f.Sync(), syncDir(s.dir))
		}
		if err != nil {
			_ = f.Truncate(info.Size())
		}
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	first := make([]byte, 1)
	if _, err := f.ReadAt(first, 0); err != nil {
		_ = f.Close()
		return err
	}
	s.reserve, s.used, s.unread = f, 0, first[0] != 0
	return nil
}

// clear empties the reserve when it was read back as far as its first read bytes.
// It keeps its room. Where something was saved meanwhile it does nothing.
func (s *spill) clear(read int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserve == nil || s.used > read || s.used == 0 && !s.unread {
		return nil
	}
	if _, err := s.reserve.WriteAt(make([]byte, reserveSize), 0); err != nil {
		return err
	}
	if err := s.sync(s.reserve); err != nil {
		return err
	}
	s.used, s.unread = 0, false
	return nil
}

// close ends the writing. An empty reserve gives its room back.
func (s *spill) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	if s.reserve != nil {
		if s.used == 0 && !s.unread && isNamed(s.reserve) {
			_ = os.Remove(s.reserve.Name())
		}
		_ = s.reserve.Close()
		s.reserve = nil
	}
}

// isNamed says whether a file is still the one of its name. Somebody may have
// removed it, or its folder: then nobody ever reads what is written to it.
func isNamed(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(info, named)
}

// makeFolder makes the ledger's folder anew where somebody has removed it. Where
// it can't, whoever opens a file there says why.
func makeFolder(dir string) { _ = os.Mkdir(dir, 0o700) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// spillReader reads a file back.
type spillReader struct {
	file    *os.File
	lines   *bufio.Reader
	read    int64 // bytes
	damaged int   // lines that were not whole, but for a last one that was cut
}

func openSpill(name string) (*spillReader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &spillReader{file: f, lines: bufio.NewReaderSize(f, maxLine)}, nil
}

// next returns up to n rows; none at the end. Damaged lines are passed over.
func (r *spillReader) next(n int) ([]*entry, error) {
	var entries []*entry
	for len(entries) < n {
		line, err := r.lines.ReadSlice('\n')
		if len(line) > 0 && line[0] == 0 { // the reserve's empty room
			return entries, nil
		}
		r.read += int64(len(line))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			r.damaged++
			for errors.Is(err, bufio.ErrBufferFull) {
				line, err = r.lines.ReadSlice('\n')
				r.read += int64(len(line))
			}
			continue
		case errors.Is(err, io.EOF): // a last line that was cut: nobody was told that it is durable
			return entries, nil
		case err != nil:
			return entries, err
		}
		if e, ok := parseLine(bytes.TrimSuffix(line, []byte("\n"))); ok {
			entries = append(entries, e)
		} else {
			r.damaged++
		}
	}
	return entries, nil
}

func (r *spillReader) close() { _ = r.file.Close() }
