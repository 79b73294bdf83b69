package ledger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// replay is the reading back of what was spilled. A crash in the middle of it
// costs nothing: a file is removed when all of it is in the database, and until
// then is read again.
type replay struct {
	files  []string
	reader *spillReader // of the first one; nil = not begun
	rows   int
	spills int // Ledger.spills before the files were listed
}

// replayBatch is how many rows are read back between two looks at those that come.
const replayBatch = 256

// beginReplay starts to read everything back that there is.
func (l *Ledger) beginReplay() error {
	l.endReplay()
	l.mu.Lock()
	r := &replay{spills: l.spills}
	l.mu.Unlock()
	files, err := l.spill.rotate()
	if err != nil {
		return err
	}
	r.files = files
	l.replay, l.passedOver = r, false
	return nil
}

func (l *Ledger) endReplay() {
	if l.replay != nil && l.replay.reader != nil {
		l.replay.reader.close()
	}
	l.replay = nil
}

// readBack takes some rows over. Its error is the database's, unless a file can't
// be read: that one is left where it is, for the next time.
func (l *Ledger) readBack() error {
	r := l.replay
	if len(r.files) == 0 {
		return l.readBackDone()
	}
	name := r.files[0]
	if r.reader == nil {
		reader, err := openSpill(name)
		if errors.Is(err, fs.ErrNotExist) {
			r.files = r.files[1:]
			return nil
		}
		if err != nil {
			l.passOver(name, err)
			return nil
		}
		r.reader = reader
	}
	entries, err := r.reader.next(replayBatch)
	if err != nil {
		l.passOver(name, err)
		return nil
	}
	if len(entries) > 0 {
		r.rows += len(entries)
		err := l.database.Load().store(entries, true)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.works()
		}
		return err
	}
	return l.dropSpill(name)
}

// dropSpill removes a file that is in the database as a whole.
func (l *Ledger) dropSpill(name string) error {
	r := l.replay
	if filepath.Base(name) == reserveName {
		// Where there is more in it by now it stays, and readBackDone begins again.
		if err := l.spill.clear(r.reader.read); err != nil {
			l.passOver(name, err)
			return nil
		}
	} else if err := l.removeSpill(name, r.reader.damaged); err != nil {
		l.passOver(name, err)
		return nil
	}
	r.reader.close()
	r.reader, r.files = nil, r.files[1:]
	return nil
}

// removeSpill removes a file, or gives it another name where some of it could not
// be read.
func (l *Ledger) removeSpill(name string, damaged int) error {
	if damaged == 0 {
		return os.Remove(name)
	}
	l.log.Error().Int("lines", damaged).Str("kept_as", name+".damaged").Msg("some rows that were written beside the ledger's database are damaged")
	return os.Rename(name, name+".damaged")
}

// passOver leaves a file to the next time.
func (l *Ledger) passOver(name string, err error) {
	l.log.Error().Err(err).Str("file", name).Msg("what was written beside the ledger's database could not be taken over; the next start tries again, if not something before it")
	r := l.replay
	if r.reader != nil {
		r.reader.close()
	}
	r.reader, r.files = nil, r.files[1:]
	l.passedOver = true
}

// readBackDone ends it. Where rows were spilled meanwhile, since the database was
// slow, it begins again.
func (l *Ledger) readBackDone() error {
	r := l.replay
	if r.rows > 0 {
		l.log.Info().Int("rows", r.rows).Msg("read back what was written beside the ledger's database")
	}
	l.endReplay()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spills == r.spills {
		l.behind = false
		l.works()
	}
	return nil
}
