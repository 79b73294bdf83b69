package ledger

import (
	"errors"
	"os"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

var (
	// errNotOpen is the database's error until it is open.
	errNotOpen = errors.New("it is being opened")
	// errClosed ends the committer.
	errClosed = errors.New("the ledger is closed")
)

const (
	// syncEvery is how long a committed row may wait for the disk to sync it.
	syncEvery = 5 * time.Second
)

// committer moves rows from the journal to the database. It is one goroutine, and the
// only one that writes to the database.
type committer struct {
	*Ledger
	*journal.Importer
	batch         []*journal.Entry // rows to store next
	syncAt        time.Time        // when the database is synced next; zero = nothing was committed since
	convertAt     time.Time        // when calls of an earlier version are converted next
	writerStopped bool
}

// commit is the committer's goroutine.
func (l *Ledger) commit() {
	defer close(l.done)
	defer l.disconnect()
	c := &committer{Ledger: l, Importer: journal.NewImporter(journal.FindLeft(l.dir, l.runName(), l.log))}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := c.cycle()
		if errors.Is(err, errClosed) {
			return
		}
		if err != nil {
			c.fail(err)
			continue
		}
		if wait > 0 {
			timer.Reset(wait)
			select {
			case <-l.wakeCommitter:
			case <-timer.C:
			}
		}
	}
}

// cycle does the most urgent thing, or returns how long there is nothing to do unless
// something wakes the committer.
func (c *committer) cycle() (wait time.Duration, err error) {
	c.mu.Lock()
	now := time.Now()
	closing, allTried, corruptErr := c.closing, c.allTried(), c.corruptErr
	opening, usable := c.databaseErr == errNotOpen, c.databaseErr == nil || c.probing
	retryIn, rowsDueIn := c.retryAt.Sub(now), c.rowsDueIn(now)
	c.mu.Unlock()
	switch {
	case closing && allTried && !c.writerStopped:
		c.stopWriter()
		return 0, nil
	case closing && c.writerStopped && (c.File() == nil || !usable && !opening):
		return 0, errClosed // the next start imports what is left
	case corruptErr != nil:
		return 0, corruptErr
	case !usable && !opening && retryIn > 0:
		return retryIn, nil
	case !usable:
		return 0, c.connect()
	default:
		return c.commitNext(now, closing, rowsDueIn)
	}
}

// commitNext does the most urgent thing while the database works.
func (c *committer) commitNext(now time.Time, closing bool, rowsDueIn time.Duration) (wait time.Duration, err error) {
	file := c.File()
	switch {
	case file != nil && file.Old && c.database.Load().converting && !c.convertAt.After(now):
		return 0, c.convert(now) // before the import: rows of the file may be among the calls to convert
	case file != nil:
		return 0, c.importBatch()
	case closing: // the writer has not tried all lines yet
		return time.Hour, nil
	case rowsDueIn <= 0:
		return 0, c.takeJournal()
	default:
		return c.maintain(now, rowsDueIn)
	}
}

// rowsDueIn returns in what time the journal's rows must be committed. The caller holds
// the mutex.
func (l *Ledger) rowsDueIn(now time.Time) time.Duration {
	switch {
	case l.rows == 0:
		return time.Hour
	case l.rows >= journal.MaxRows || l.urgent || l.probing:
		return 0
	default:
		return l.oldest.Add(l.opts.interval).Sub(now)
	}
}

// takeJournal makes the writer begin another file, and adds the previous one to the
// import.
func (c *committer) takeJournal() error {
	next, err := c.journal.NewSegment()
	if err != nil {
		return err
	}
	r := &rotation{next: next, done: make(chan struct{})}
	c.rotate <- r
	<-r.done
	if r.err == nil && r.file != nil {
		c.Add(r.file)
	}
	return r.err
}

// stopWriter stops the writer, and adds its last files to the import.
func (c *committer) stopWriter() {
	close(c.stop)
	<-c.written
	c.writerStopped = true
	c.Add(c.journal.Close()...)
}

// importBatch stores some rows of the first file. Its error is the database's.
func (c *committer) importBatch() error {
	file := c.File()
	var err error
	if len(c.batch) == 0 {
		c.batch, err = c.Next(journal.MaxRows)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		c.Skip()
	case err != nil:
		c.skippedFile = true
		c.log.Error().Err(err).Str("file", file.Path).Msg("the ledger could not import a journal file; the next start tries again")
		c.Skip()
	case len(c.batch) > 0:
		if err := c.database.Load().store(c.batch); err != nil {
			return err
		}
		c.batch = nil
	default:
		c.finishFile()
	}
	if c.File() == nil {
		c.setWorking()
	}
	return nil
}

// finishFile removes the first file. The database has all of its rows.
func (c *committer) finishFile() {
	file := c.File()
	if file.Left() && c.Rows() > 0 {
		c.log.Info().Int("rows", c.Rows()).Str("file", file.Path).Msg("the ledger imported a journal file that an earlier llmsup left")
	}
	damaged, err := c.Remove()
	if damaged > 0 {
		c.log.Error().Int("lines", damaged).Str("kept_as", file.DamagedPath()).Msg("some lines of a journal file of the ledger are damaged; the file is kept under another name")
	}
	if err != nil {
		c.skippedFile = true
		c.log.Error().Err(err).Str("file", file.Path).Msg("the ledger imported a journal file but cannot remove it; check the permissions of its folder")
	}
}

// setWorking records that the database works and has all rows of the journal files.
func (l *Ledger) setWorking() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.databaseErr, l.probing, l.oldestImport = nil, false, time.Time{}
	l.publish()
}

// maintain does what is less urgent than rows, or returns how long there is nothing to do.
func (c *committer) maintain(now time.Time, rowsDueIn time.Duration) (wait time.Duration, err error) {
	d := c.database.Load()
	c.mu.Lock()
	deleteIn, trying := c.deleteAt.Sub(now), c.probing
	c.mu.Unlock()
	syncIn, convertIn := time.Hour, time.Hour
	if d.converting {
		convertIn = c.convertAt.Sub(now)
	}
	if d.unsynced {
		if c.syncAt.IsZero() {
			c.syncAt = now.Add(syncEvery)
		}
		syncIn = c.syncAt.Sub(now)
	}
	switch {
	case trying:
		c.setWorking()
	case syncIn <= 0:
		c.syncAt = time.Time{}
		return 0, d.sync()
	case convertIn <= 0:
		return 0, c.convert(now)
	case deleteIn <= 0:
		return 0, c.deleteOld()
	default:
		return min(rowsDueIn, syncIn, convertIn, deleteIn), nil
	}
	return 0, nil
}

// fail records that the database cannot be used, and renames a corrupt one. The file that
// is being imported is read again, since the next database may not have its rows; not
// after a lock, though, which leaves the database as it is.
func (c *committer) fail(err error) {
	if !isBusy(err) {
		c.Rewind()
		c.batch = nil
	}
	aside, err := c.quarantine(err)
	c.mu.Lock()
	if aside != "" {
		c.quarantined = aside
	}
	c.databaseErr, c.corruptErr, c.probing, c.retryAt = err, nil, false, time.Now().Add(c.opts.retry)
	if c.oldestImport.IsZero() {
		c.oldestImport = time.Now()
	}
	c.publish()
	c.mu.Unlock()
	if !isBusy(err) {
		c.disconnect()
	}
}

// quarantine renames the database if err says that it is corrupt. It returns the new name
// ("" = not renamed) and err, joined with the error of the renaming.
func (l *Ledger) quarantine(err error) (aside string, _ error) {
	if !isCorrupt(err) {
		return "", err
	}
	aside, moveErr := quarantineFiles(l.path(), l.opts.now())
	if moveErr != nil {
		return "", errors.Join(err, moveErr)
	}
	l.log.Error().Err(err).Str("kept_as", aside).Msg("the ledger's database is corrupt; it is kept under another name, sqlite3's .recover may read it, and a new one is created")
	return aside, err
}

// connect opens the database if necessary, and tests whether it can be written.
func (c *committer) connect() error {
	d := c.database.Load()
	c.mu.Lock()
	open, opening := d != nil && isBusy(c.databaseErr), c.databaseErr == errNotOpen
	c.mu.Unlock()
	if !open {
		c.disconnect()
		journal.MakeDir(c.dir)
		var err error
		if d, err = openDatabase(c.path(), c.opts.migrations, c.log); err != nil {
			return err
		}
		c.database.Store(d)
	}
	if err := d.probe(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A few bytes can be written even to a full disk: the database counts as failed until
	// it has stored the waiting rows.
	c.probing, c.converting = true, d.converting
	if opening {
		c.databaseErr = nil
		c.publish()
	}
	return nil
}

// disconnect closes the database.
func (l *Ledger) disconnect() {
	if d := l.database.Swap(nil); d != nil {
		d.close()
	}
}
