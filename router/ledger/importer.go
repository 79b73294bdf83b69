package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// Files of earlier versions: rows that were written beside the database, in lines as
// a journal's, and paid attempts under way. There is one of the latter for each llmsup
// that was killed; its lines "row" are what a journal's "begin" is.
const (
	spillPattern   = "ledger.spill-*.jsonl"
	pendingPattern = "ledger.pending-*.jsonl"
)

// importer reads journal files, one after the other. A file is removed when all of it
// is in the database, and until then is read again after a failure: what it has twice
// is stored once.
type importer struct {
	files    []*journalFile
	reader   *lineReader // of the first one; nil = not begun
	imported int         // rows of it
	// begun are the attempts that have begun and not ended, of the first file's run.
	begun map[int64]*entry
}

// leftFiles finds what earlier llmsups have left in a folder, in the order in which
// it was written.
func leftFiles(dir, ownRun string, log zerolog.Logger) []*journalFile {
	var files []*journalFile
	for _, pattern := range []string{journalPattern, spillPattern, pendingPattern} {
		found, err := filepath.Glob(filepath.Join(globQuote(dir), pattern))
		if err != nil {
			log.Error().Err(err).Msg("the ledger cannot look for what an earlier llmsup has left")
		}
		slices.Sort(found)
		for _, path := range found {
			run := path
			if pattern == journalPattern {
				run, _, _ = strings.Cut(strings.TrimPrefix(filepath.Base(path), "ledger.journal-"), "-")
			}
			if run == ownRun {
				continue
			}
			if n := len(files); n > 0 {
				files[n-1].last = files[n-1].run != run
			}
			files = append(files, &journalFile{path: path, run: run, last: true, old: pattern != journalPattern, pending: pattern == pendingPattern})
		}
	}
	return files
}

// globQuote makes a path a pattern that matches it alone.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// next returns up to n rows of the first file; none at its end.
func (im *importer) next(n int) ([]*entry, error) {
	file := im.files[0]
	if file.entries != nil {
		if im.imported > 0 {
			return nil, nil
		}
		return file.entries, nil
	}
	if im.reader == nil {
		if file.file == nil {
			f, err := os.Open(file.path)
			if err != nil {
				return nil, err
			}
			file.file = f
		}
		im.reader = newLineReader(file.file)
	}
	var entries []*entry
	for len(entries) < n {
		l, err := im.reader.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch {
		case l.kind == endLine:
			delete(im.begun, l.ID)
		case l.kind == beginLine || file.pending:
			im.begun[l.ID] = &l.entry
		default:
			entries = append(entries, &l.entry)
			delete(im.begun, l.ID)
			for _, id := range l.Ends {
				delete(im.begun, id)
			}
		}
	}
	if len(entries) > 0 || !file.last {
		return entries, nil
	}
	for _, e := range im.begun {
		entries = append(entries, e)
	}
	clear(im.begun)
	return entries, nil
}

// rewind has the first file read again.
func (im *importer) rewind() {
	im.reader, im.imported = nil, 0
	im.begun = map[int64]*entry{}
}

// removeFile ends the first file. It removes the file, or gives it another name where some
// lines could not be read.
func (im *importer) removeFile() (damaged int, err error) {
	file := im.files[0]
	if im.reader != nil {
		damaged = im.reader.damaged
	}
	switch named := file.file != nil && isNamed(file.file); {
	case !named:
	case damaged > 0:
		err = os.Rename(file.path, file.path+".damaged")
	default:
		err = os.Remove(file.path)
	}
	im.skip()
	return damaged, err
}

// skip leaves the first file where it is.
func (im *importer) skip() {
	file := im.files[0]
	if file.file != nil {
		_ = file.file.Close()
	}
	im.files, im.reader, im.imported = im.files[1:], nil, 0
	if file.last || file.live {
		im.begun = map[int64]*entry{}
	}
}

// lineReader reads the lines of a file.
type lineReader struct {
	lines   *bufio.Reader
	damaged int // lines that are not whole, but for a last one that was cut
}

func newLineReader(f *os.File) *lineReader {
	return &lineReader{lines: bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 4*maxLine)}
}

// next returns the next line that is whole, or io.EOF.
func (r *lineReader) next() (line, error) {
	for {
		if err := r.skipZeros(); err != nil {
			return line{}, err
		}
		raw, err := r.lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || err == nil && len(raw) > maxLine:
			r.damaged++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.lines.ReadSlice('\n')
			}
			continue
		case err != nil: // io.EOF: a last line that was cut, of a call whose answer had not ended
			return line{}, err
		}
		raw = bytes.TrimSuffix(raw, []byte("\n"))
		if l, ok := parseLine(raw); ok {
			return l, nil
		}
		var id int64
		if _, err := fmt.Sscanf(string(raw), `{"ended":%d}`, &id); err == nil { // of an earlier version's pending file
			return line{kind: endLine, entry: entry{ID: id}}, nil
		}
		r.damaged++
	}
}

// skipZeros skips what a power failure can leave: blocks that were never written.
func (r *lineReader) skipZeros() error {
	for {
		c, err := r.lines.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return r.lines.UnreadByte()
		}
	}
}
