package ledger

import (
	"errors"
	"slices"
	"time"
)

// errNotOpen is why the database can't be used at first.
var errNotOpen = errors.New("it is being opened")

// maxBatch is how many rows are committed at once, and so how long others wait.
const maxBatch = 1024

// commit is the committer. It alone writes to the database.
func (l *Ledger) commit() {
	defer close(l.committed)
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.takeOverPending()
	for {
		batch, wait := l.take()
		switch {
		case batch != nil:
			l.commitBatch(batch)
			continue
		case wait == 0:
			if !l.turn() {
				l.disconnect()
				return
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-l.wakeCommitter:
		case <-timer.C:
		}
	}
}

// take gives the committer the rows that are due. Without any, wait is how long
// there is nothing to do unless somebody wakes it; at 0 there is something else.
func (l *Ledger) take() (batch []*entry, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspect != nil {
		return nil, 0
	}
	if l.down != nil && !l.trying {
		if l.closing {
			return nil, 0
		}
		return nil, max(time.Until(l.retryAt), 0)
	}
	for len(l.waiting) > 0 && l.waiting[0].safe { // spilled
		l.waiting = l.waiting[1:]
	}
	idle := min(max(time.Until(l.deleteAt), 0), time.Hour)
	if l.closing || l.behind || l.trying {
		idle = 0
	}
	if len(l.waiting) == 0 {
		l.waiting, l.urgent = nil, false // what it was cut from can go
		return nil, idle
	}
	due := time.Until(l.waiting[0].born.Add(l.opts.interval))
	if due > 0 && !l.urgent && !l.closing && len(l.waiting) < maxBatch {
		return nil, min(due, idle)
	}
	n := min(len(l.waiting), maxBatch)
	if l.urgent && n < len(l.waiting) { // nobody who waits stands behind thousands who don't
		slices.SortStableFunc(l.waiting, func(a, b *entry) int { return a.rank() - b.rank() })
	}
	l.inflight, l.waiting = l.waiting[:n:n], l.waiting[n:]
	l.urgent = l.urgent && len(l.waiting) > 0
	return l.inflight, 0
}

// commitBatch writes rows to the database.
func (l *Ledger) commitBatch(batch []*entry) {
	var fresh, again []*entry
	l.mu.Lock()
	for _, e := range batch {
		switch {
		case e.safe: // it comes back with the spill
		case e.tried || e.spilling:
			again = append(again, e)
		default:
			fresh = append(fresh, e)
		}
		e.tried = true
	}
	l.mu.Unlock()
	d := l.database.Load()
	var err error
	if len(fresh) > 0 || len(again) == 0 { // without any it still says whether the database works
		err = d.store(fresh, false)
	}
	if err == nil && len(again) > 0 {
		err = d.store(again, true)
	}
	err = l.setAside(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inflight = nil
	if err == nil {
		l.markSafe(batch)
		l.works()
		return
	}
	l.waiting = slices.Concat(batch, l.waiting)
	l.fail(err)
}

// setAside gives a database that err says is corrupt another name, and returns err
// with what went wrong at that. Nobody holds the mutex: it is for a disk to do.
func (l *Ledger) setAside(err error) error {
	if !isCorrupt(err) {
		return err
	}
	aside, moveErr := moveAside(l.path(), l.opts.now())
	if moveErr != nil {
		return errors.Join(err, moveErr)
	}
	l.mu.Lock()
	l.aside = aside
	l.mu.Unlock()
	l.log.Error().Err(err).Str("kept_as", aside).Msg("the ledger's database is corrupt; it is kept under another name, sqlite3's .recover may read it, and a new one is begun")
	return err
}

// fail notes that the database can't be used. The caller holds the mutex.
func (l *Ledger) fail(err error) {
	if !l.behind {
		l.behind, l.spilled = true, l.opts.now()
	}
	l.down, l.suspect, l.trying, l.retryAt = err, nil, false, time.Now().Add(l.opts.retry)
	l.tell()
	wake(l.wakeSpiller)
}

// works notes that the database took something. The caller holds the mutex.
func (l *Ledger) works() {
	l.down, l.trying = nil, false
	l.tell()
}

// turn does what there is to do beside the rows that come: it opens the database,
// reads back what was spilled, deletes what is old. It returns false when there is
// nothing left to do for ever.
func (l *Ledger) turn() bool {
	l.mu.Lock()
	down, suspect, closing, behind := l.down, l.suspect, l.closing, l.behind
	if l.trying {
		down = nil
	}
	l.mu.Unlock()
	var err error
	switch {
	case down != nil && (!closing || down == errNotOpen): // whoever closes it at once has rows for it, too
		err = l.connect()
	case closing:
		return false
	case suspect != nil:
		err = suspect
	case behind && l.replay == nil:
		err = l.beginReplay()
	case behind:
		err = l.readBack()
	default:
		err = l.deleteOld()
	}
	if err != nil {
		l.endReplay()
		err = l.setAside(err)
		l.mu.Lock()
		l.fail(err)
		l.mu.Unlock()
		if !isBusy(err) {
			l.disconnect()
		}
	}
	return true
}

// connect opens the database where it is not open, and tries whether it can be
// written to.
func (l *Ledger) connect() error {
	d := l.database.Load()
	l.mu.Lock()
	usable := d != nil && isBusy(l.down)
	l.mu.Unlock()
	if !usable {
		l.disconnect()
		makeFolder(l.dir)
		var err error
		if d, err = openDatabase(l.path(), l.opts.migrations, l.log); err != nil {
			return err
		}
		l.database.Store(d)
	}
	if err := d.probe(); err != nil {
		return err
	}
	l.keepRoom()
	l.mu.Lock()
	defer l.mu.Unlock()
	// What could be written is next to nothing: on a full disk that says little. It
	// is down until it takes what there is to write.
	l.trying = true
	if l.down == errNotOpen {
		l.works()
	}
	return nil
}

// keepRoom sees to it that there is room for what is paid when the disk is full.
func (l *Ledger) keepRoom() {
	err := l.spill.prepare()
	if err != nil && !l.noRoom {
		l.log.Warn().Err(err).Msg("no room could be kept beside the ledger's database for the case that the disk gets full")
	}
	l.noRoom = err != nil
}

// disconnect closes the database.
func (l *Ledger) disconnect() {
	if d := l.database.Swap(nil); d != nil {
		d.close()
	}
}
