package ledger

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// Options are the settings of a ledger.
type Options struct {
	// Retention is how long the rows of calls are kept; 0 = for ever. The sums of days are
	// kept for ever.
	Retention time.Duration
	Log       zerolog.Logger

	// For tests; zero = the default.
	interval   time.Duration // how long a row may wait in the journal, to be committed with others
	retry      time.Duration // how often a database or a journal that failed is tried again
	maxWaiting int           // lines in memory from which on rows of free calls are dropped
	migrations []string
	writeAt    journal.WriteAt // to the journal
	now        func() time.Time
}

const (
	defaultInterval = time.Second
	defaultRetry    = time.Second
	// defaultMaxWaiting lines take about 25 MB.
	defaultMaxWaiting = 50_000
)

// Ledger records calls. It is safe for concurrent use.
type Ledger struct {
	dir       string
	opts      Options
	log       zerolog.Logger
	run       int64        // upper half of the ids of this run's rows
	lastID    atomic.Int64 // lower half of the last id
	retention atomic.Int64 // the present Options.Retention

	beginFailed atomic.Bool // the last begin line could not be written
	// database belongs to the committer; other goroutines only use its reader.
	database    atomic.Pointer[database]
	skippedFile bool             // committer: a journal file could not be imported or removed
	journal     *journal.Journal // belongs to the writer, and after its end to the committer
	lines       []*journal.Line  // writer: memory for its next write

	wakeWriter, wakeCommitter chan struct{}
	rotate                    chan *rotation // asks the writer to begin another journal file
	stop                      chan struct{}  // closed to stop the writer
	written, done             chan struct{}  // closed when the writer and the committer have ended

	mu        sync.Mutex
	queues    [2]*queue // of lines about paid calls, and of the others
	closing   bool      // Close was called: no more lines
	writeHung bool      // a write to the journal hangs

	rows         int           // in the journal, not committed yet
	oldest       time.Time     // when the first of these rows was queued
	oldestImport time.Time     // the same for the files that the committer imports; zero = none
	urgent       bool          // commit the rows at once
	converting   bool          // the table batch has calls of an earlier version
	databaseErr  error         // why the database cannot be used; nil = it can
	retryAt      time.Time     // with databaseErr: when the database is tried again
	probing      bool          // with databaseErr: it is being tried
	corruptErr   error         // a reader's error that says that the database is corrupt
	deleteAt     time.Time     // when old rows are deleted next
	dropped      int           // rows that were dropped
	quarantined  string        // the file of the corrupt database that was renamed last
	logged       Condition     // the condition that was logged last
	inMemory     bool          // rows wait in memory, and that was logged
	changed      chan struct{} // closed at the next change
}

// Open opens a ledger in a folder that exists and that only this llmsup uses. It does not
// wait for the database, and always returns a ledger that records rows: State and the log
// report what does not work.
func Open(dir string, opts Options) *Ledger {
	l := newLedger(dir, opts)
	go l.write()
	go l.commit()
	return l
}

// newLedger returns a ledger without its goroutines.
func newLedger(dir string, opts Options) *Ledger {
	setDefault(&opts.interval, defaultInterval)
	setDefault(&opts.retry, defaultRetry)
	setDefault(&opts.maxWaiting, defaultMaxWaiting)
	if opts.migrations == nil {
		opts.migrations = migrations
	}
	if opts.writeAt == nil {
		opts.writeAt = (*os.File).WriteAt
	}
	if opts.now == nil {
		opts.now = time.Now
	}
	l := &Ledger{
		dir: dir, opts: opts, log: opts.Log, run: newRun(),
		wakeWriter: make(chan struct{}, 1), wakeCommitter: make(chan struct{}, 1), rotate: make(chan *rotation),
		stop: make(chan struct{}), written: make(chan struct{}), done: make(chan struct{}),
		changed: make(chan struct{}), queues: [2]*queue{{paid: true, failed: make(chan struct{})}, {failed: make(chan struct{})}},
		databaseErr: errNotOpen, oldestImport: time.Now(),
	}
	l.journal = journal.New(dir, l.runName(), opts.writeAt)
	l.retention.Store(int64(opts.Retention))
	return l
}

func setDefault[T comparable](option *T, value T) {
	var zero T
	if *option == zero {
		*option = value
	}
}

// newRun returns the upper half of the ids of a run's rows: 31 random bits. Time and id
// together are unique.
func newRun() int64 {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return int64(binary.BigEndian.Uint32(random[:])>>1) << 32
}

func (l *Ledger) runName() string { return fmt.Sprintf("%08x", l.run>>32) }

func (l *Ledger) newID() int64 { return l.run | l.lastID.Add(1) }

// numbers are those of calls without a ledger.
var numbers atomic.Int64

// NewNumber returns a number for the row of a call that has begun: see Row.
func (l *Ledger) NewNumber() int64 {
	if l == nil {
		return numbers.Add(1)
	}
	return l.newID()
}

func (l *Ledger) path() string { return filepath.Join(l.dir, databaseName) }

// Record records a row, which ends the attempts that Begin returned for its call. If the
// caller waits for the receipt before it sends the last byte of the answer, a kill of
// llmsup right after that does not lose the row. A nil Ledger records nothing.
func (l *Ledger) Record(row Row, attempts ...*Pending) *Receipt {
	if l == nil {
		return nil
	}
	if len(attempts) == 0 {
		return l.enqueue(journal.NewEntry(l.idOf(&row), &row).Line(journal.RowLine), row.Paid)
	}
	e := journal.NewEntry(attempts[0].id, &row)
	for _, p := range attempts[1:] {
		if p.id != e.ID {
			e.Ends = append(e.Ends, p.id)
		}
	}
	return l.enqueue(e.Line(journal.RowLine), true)
}

// idOf returns the id of a row.
func (l *Ledger) idOf(row *Row) int64 {
	if row.Number == 0 {
		return l.newID()
	}
	return row.Number
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// announce wakes the goroutines that wait for a change. The caller holds the mutex.
func (l *Ledger) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Sync waits until all recorded rows are in the database.
func (l *Ledger) Sync(ctx context.Context) error {
	return l.await(ctx, func() bool {
		waiting := l.queues[0].len() + l.queues[1].len() + l.rows
		if waiting > 0 {
			l.urgent = true
			wake(l.wakeWriter)
			wake(l.wakeCommitter)
		}
		return waiting == 0
	})
}

// AwaitImport waits until the database has the rows of the journal files that an earlier
// llmsup left. It does not wait for rows that are recorded meanwhile.
func (l *Ledger) AwaitImport(ctx context.Context) error {
	return l.await(ctx, func() bool { return true })
}

// await waits until the database works, all journal files are imported, and ready, which
// is called with the mutex held, returns true.
func (l *Ledger) await(ctx context.Context, ready func() bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ready() || l.databaseErr != nil || !l.oldestImport.IsZero() {
		changed, down := l.changed, l.databaseErr
		l.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.mu.Lock()
		switch {
		case err != nil && down != nil && down != errNotOpen:
			return errors.New(describeError(l.path(), down))
		case err != nil:
			return fmt.Errorf("the ledger's database does not have all rows yet: %w", err)
		}
	}
	return nil
}

// allTried returns whether the writer has tried to write all lines, once Close was called.
// The caller holds the mutex.
func (l *Ledger) allTried() bool {
	for _, q := range l.queues {
		if len(q.writing) > 0 || len(q.items) > 0 && !q.lastTry {
			return false
		}
	}
	return true
}

// Close writes the waiting rows to the journal, imports it if the database works, and ends
// the ledger. Rows that are recorded later are dropped. If the disk hangs, Close returns
// when ctx ends; its error has the number of lines that were not written.
func (l *Ledger) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	wake(l.wakeWriter)
	wake(l.wakeCommitter)
	select {
	case <-l.done:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := l.queues[0].len() + l.queues[1].len(); left > 0 {
		return fmt.Errorf("close the ledger: %d lines are neither in %s nor in a journal beside it", left, l.path())
	}
	return ctx.Err()
}
