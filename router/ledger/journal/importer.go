package journal

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

const (
	prefix     = "ledger.journal-"
	suffix     = ".jsonl"
	ownPattern = prefix + "*" + suffix
	// Files of earlier versions: rows that were written beside the database, in the
	// journal's format, and paid attempts under way, one file for each llmsup that was
	// killed. Its row lines mean what a journal's begin lines do.
	spillPattern   = "ledger.spill-*.jsonl"
	pendingPattern = "ledger.pending-*.jsonl"
)

// File is a journal file that nothing is appended to any more.
type File struct {
	Path string
	Old  bool // an earlier version wrote it

	file     *os.File // nil = not open yet
	entries  []*Entry // its rows, if they are still in memory
	run      string   // which run of llmsup wrote it, from its name
	ownRun   bool     // this llmsup wrote it: what began in it may still end
	lastFile bool     // of its run
	pending  bool     // it has paid attempts of an earlier version
}

// Left returns whether an earlier llmsup left the file.
func (f *File) Left() bool { return !f.ownRun }

// FindLeft finds the files that earlier llmsups left in a folder, in the order in which
// they were written.
func FindLeft(dir, ownRun string, log zerolog.Logger) []*File {
	var files []*File
	for _, pattern := range []string{ownPattern, spillPattern, pendingPattern} {
		found, err := filepath.Glob(filepath.Join(quoteGlob(dir), pattern))
		if err != nil {
			log.Error().Err(err).Msg("the ledger cannot look for the journals of an earlier llmsup")
		}
		slices.Sort(found)
		for _, path := range found {
			run := path
			if pattern == ownPattern {
				run, _, _ = strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
			}
			if run == ownRun {
				continue
			}
			if n := len(files); n > 0 {
				files[n-1].lastFile = files[n-1].run != run
			}
			files = append(files, &File{Path: path, run: run, lastFile: true, Old: pattern != ownPattern, pending: pattern == pendingPattern})
		}
	}
	return files
}

// quoteGlob returns a pattern that matches only the path.
func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Importer reads journal files, one after the other. A file is removed when all of it
// is in the database, and until then is read again after a failure: the database stores
// a row that comes twice once.
type Importer struct {
	files  []*File
	reader *lineReader // of the first file; nil = not begun
	rows   int         // of the first file, that Next returned
	// begun are the attempts of the first file's run that have begun and not ended.
	begun map[int64]*Entry
}

// NewImporter returns an importer of files.
func NewImporter(files []*File) *Importer { return &Importer{files: files, begun: map[int64]*Entry{}} }

// Add adds files, which are read after the others.
func (im *Importer) Add(files ...*File) { im.files = append(im.files, files...) }

// File returns the file that is being read; nil if there is none.
func (im *Importer) File() *File {
	if len(im.files) == 0 {
		return nil
	}
	return im.files[0]
}

// Rows returns how many rows of the file Next has returned.
func (im *Importer) Rows() int { return im.rows }

// Next returns up to n more rows of the file; none at its end.
func (im *Importer) Next(n int) ([]*Entry, error) {
	file := im.files[0]
	var entries []*Entry
	switch {
	case file.entries == nil:
		var err error
		if entries, err = im.read(n); err != nil {
			return nil, err
		}
	case im.rows == 0:
		entries = file.entries
	}
	im.rows += len(entries)
	return entries, nil
}

// read reads rows from the file. At the end of a run's last file, the attempts that
// have not ended become rows.
func (im *Importer) read(n int) (entries []*Entry, err error) {
	file := im.files[0]
	if im.reader == nil {
		if file.file == nil {
			if file.file, err = os.Open(file.Path); err != nil {
				return nil, err
			}
		}
		im.reader = newLineReader(file.file)
	}
	for len(entries) < n {
		line, err := im.reader.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch {
		case line.Kind == EndLine:
			delete(im.begun, line.ID)
		case line.Kind == BeginLine || file.pending:
			im.begun[line.ID] = line.Entry
		default:
			entries = append(entries, line.Entry)
			delete(im.begun, line.ID)
			for _, id := range line.Entry.Ends {
				delete(im.begun, id)
			}
		}
	}
	if len(entries) == 0 && file.lastFile {
		entries = slices.Collect(maps.Values(im.begun))
		clear(im.begun)
	}
	return entries, nil
}

// Rewind reads the file again from its start.
func (im *Importer) Rewind() {
	im.reader, im.rows = nil, 0
	im.begun = map[int64]*Entry{}
}

// Remove removes the file, of which all rows are in the database, and goes on to the
// next. A file with damaged lines is renamed instead.
func (im *Importer) Remove() (damaged int, err error) {
	file := im.files[0]
	if im.reader != nil {
		damaged = im.reader.damaged
	}
	switch named := file.file != nil && isNamed(file.file); {
	case !named:
	case damaged > 0:
		err = os.Rename(file.Path, file.DamagedPath())
	default:
		err = os.Remove(file.Path)
	}
	im.Skip()
	return damaged, err
}

// DamagedPath returns the name under which a file with damaged lines is kept.
func (f *File) DamagedPath() string { return f.Path + ".damaged" }

// Skip leaves the file where it is, and goes on to the next.
func (im *Importer) Skip() {
	file := im.files[0]
	if file.file != nil {
		_ = file.file.Close()
	}
	im.files, im.reader, im.rows = im.files[1:], nil, 0
	if file.lastFile || file.ownRun {
		im.begun = map[int64]*Entry{}
	}
}
