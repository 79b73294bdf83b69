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
	// Retention is how long the rows of calls are kept; 0 = for ever. The sums of days
	// always are.
	Retention time.Duration
	Log       zerolog.Logger

	// These are for tests; zero = the default.
	interval   time.Duration // how long a row may wait in the journal for others to be committed with
	retry      time.Duration // how often a database or a journal that does not work is tried
	maxWaiting int           // lines in memory above which rows of free calls are dropped
	migrations []string
	writeAt    journal.WriteAt // to the journal
	now        func() time.Time
}

const (
	defaultInterval = time.Second
	defaultRetry    = time.Second
	// defaultMaxWaiting is some 25 MB.
	defaultMaxWaiting = 50_000
)

// Ledger records calls. Any number of goroutines may use it at once.
type Ledger struct {
	dir       string
	opts      Options
	log       zerolog.Logger
	run       int64        // the upper half of the ids of this run's rows
	lastID    atomic.Int64 // its lower half
	retention atomic.Int64 // Options.Keep, as it is now

	beginFailed atomic.Bool // the last line of Begin could not be written
	// database is the committer's; others read by its reader.
	database    atomic.Pointer[database]
	skippedFile bool             // the committer's: a file could not be imported, or not removed
	journal     *journal.Journal // the writer's, and once that is stopped the committer's
	lines       []*journal.Line  // the writer's: memory for its next write

	wakeWriter, wakeCommitter chan struct{}
	rotate                    chan *rotation // asks the writer for the rows of the journal
	stop                      chan struct{}  // closed to stop the writer
	written, done             chan struct{}  // closed when the writer has ended, and when the committer has

	mu      sync.Mutex
	queues  [2]*queue // lines about paid calls, and the others
	closing bool      // no more lines
	hangs   bool      // a write hangs

	rows         int       // in the journal, for the committer
	oldest       time.Time // when the first of them was queued
	oldestImport time.Time // the same of the files that the committer has; zero = it has none
	urgent       bool      // rows are to be committed at once
	converting   bool      // the table batch has calls of an earlier version
	down         error     // why the database cannot be used; nil = it can
	retryAt      time.Time // with down: when it is tried again
	trying       bool      // with down: it is, just now
	suspect      error     // what a reader found the database to be, for the committer
	deleteAt     time.Time // when old rows are deleted next
	lost         int       // rows that were dropped
	quarantined  string    // the corrupt database that was moved aside last
	logged       Condition
	changed      chan struct{} // closed at the next change
}

// Open begins a ledger in a folder, which has to exist and is one llmsup's alone.
// It does not wait for the database, and always returns a ledger that records rows:
// State and the log say what does not work.
func Open(dir string, opts Options) *Ledger {
	l := newLedger(dir, opts)
	go l.write()
	go l.commit()
	return l
}

// newLedger makes a ledger without its goroutines.
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
		down: errNotOpen, oldestImport: time.Now(),
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

// newRun makes the upper half of the ids of a run's rows: 31 random bits. With the
// call's time they distinguish a row from every other.
func newRun() int64 {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return int64(binary.BigEndian.Uint32(random[:])>>1) << 32
}

func (l *Ledger) runName() string { return fmt.Sprintf("%08x", l.run>>32) }

func (l *Ledger) newID() int64 { return l.run | l.lastID.Add(1) }

func (l *Ledger) path() string { return filepath.Join(l.dir, databaseName) }

// Record records a row, which ends the attempts that Begin returned for its call. If the
// caller waits for the receipt before it sends the last byte of the answer, a kill of
// llmsup right after that does not lose the row. A nil Ledger records nothing.
func (l *Ledger) Record(row Row, attempts ...*Pending) *Receipt {
	if l == nil {
		return nil
	}
	if len(attempts) == 0 {
		return l.enqueue(journal.NewEntry(l.newID(), &row).Line(journal.RowLine), row.Paid)
	}
	e := journal.NewEntry(attempts[0].id, &row)
	for _, p := range attempts[1:] {
		e.Ends = append(e.Ends, p.id)
	}
	return l.enqueue(e.Line(journal.RowLine), true)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// announce wakes all that wait for a change. The caller holds the mutex.
func (l *Ledger) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Sync waits until all that was recorded is in the database.
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

// AwaitImport waits until the database has what was in journal files before. Calls that
// come meanwhile don't hold it up.
func (l *Ledger) AwaitImport(ctx context.Context) error {
	return l.await(ctx, func() bool { return true })
}

// await waits until the database works, has imported all files of the journal, and
// ready returns true, which is called with the mutex held.
func (l *Ledger) await(ctx context.Context, ready func() bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ready() || l.down != nil || !l.oldestImport.IsZero() {
		changed, down := l.changed, l.down
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
			return errors.New(explain(l.path(), down))
		case err != nil:
			return fmt.Errorf("the ledger is behind: %w", err)
		}
	}
	return nil
}

// allTried returns whether the writer of a ledger that is being closed has tried to
// write all lines. The caller holds the mutex.
func (l *Ledger) allTried() bool {
	for _, q := range l.queues {
		if len(q.writing) > 0 || len(q.items) > 0 && !q.last {
			return false
		}
	}
	return true
}

// Close writes the rows that wait to the journal, imports it where the database works,
// and ends the ledger. Later rows are lost. It returns when ctx ends at the latest:
// then the disk hangs, and the error has the number of lines that are in no file.
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
		return fmt.Errorf("close the ledger: %d lines are in neither %s nor a journal beside it", left, l.path())
	}
	return ctx.Err()
}
