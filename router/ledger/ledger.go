package ledger

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Options are what can be chosen.
type Options struct {
	// Keep is how long the rows of calls are kept; 0 = for ever. The sums of days
	// always are.
	Keep time.Duration
	Log  zerolog.Logger

	// These are for tests; zero = the default.
	interval   time.Duration // how long a row may wait for others to be committed with
	patience   time.Duration // how long the database may take before a row is spilled
	retry      time.Duration // how often a database that does not work is tried
	maxWaiting int           // rows in memory above which free ones are dropped
	migrations []string
	sync       func(*os.File) error
	now        func() time.Time
}

const (
	// defaultInterval leaves a quarter of the 100 ms within which a row is durable to
	// the disk. Each commit costs as much as some 200 rows.
	defaultInterval = 75 * time.Millisecond
	defaultPatience = 250 * time.Millisecond
	defaultRetry    = time.Second
	// defaultMaxWaiting is some 10 MB.
	defaultMaxWaiting = 50_000
)

// Ledger is the books. Any number of calls may use it at once; none of them waits
// for a disk but in Receipt.Wait.
type Ledger struct {
	dir  string
	opts Options
	log  zerolog.Logger
	run  int64        // the upper half of the ids of this run's rows
	keep atomic.Int64 // Options.Keep, as it is now

	spill   spill
	pending pendingCalls
	// database is the committer's; others read by its reader.
	database atomic.Pointer[database]
	// These are the committer's, too.
	replay     *replay // what is being read back; nil = nothing
	passedOver bool    // a file could not be read back, or not removed
	noRoom     bool    // there is none on the disk for the reserve

	wakeCommitter, wakeSpiller chan struct{}
	committed, done            chan struct{} // closed when the committer, and the spiller too, have ended

	mu       sync.Mutex
	next     int64         // the lower half of the next id
	kinds    kinds         // of the rows that came
	waiting  []*entry      // for the committer, in the order of arrival
	inflight []*entry      // with the committer
	urgent   bool          // somebody waits for one of waiting
	closing  bool          // no more rows
	down     error         // why the database can't be used; nil = it can
	retryAt  time.Time     // with down: when it is tried again
	trying   bool          // with down: it is, just now
	behind   bool          // there are rows in spill files
	spilled  time.Time     // with behind: since when
	spills   int           // writes to spill files
	noSpill  error         // why the last write to one failed; nil = it did not
	suspect  error         // what a reader found the database to be, for the committer
	deleteAt time.Time     // when old rows are looked for
	lost     int           // rows that were dropped
	aside    string        // the corrupt database that was moved aside last
	told     Condition     // in the log
	changed  chan struct{} // closed at the next change
}

// Open begins a ledger in a folder, which has to exist and is one llmsup's alone.
// It does not wait for the database, and always returns a ledger that takes rows:
// what does not work is told by State, and in the log.
func Open(dir string, opts Options) *Ledger {
	l := newLedger(dir, opts)
	go l.commit()
	go l.spillOver()
	return l
}

// newLedger makes a ledger at which nobody works.
func newLedger(dir string, opts Options) *Ledger {
	setDefault(&opts.interval, defaultInterval)
	setDefault(&opts.patience, defaultPatience)
	setDefault(&opts.retry, defaultRetry)
	setDefault(&opts.maxWaiting, defaultMaxWaiting)
	if opts.migrations == nil {
		opts.migrations = migrations
	}
	if opts.sync == nil {
		opts.sync = (*os.File).Sync
	}
	if opts.now == nil {
		opts.now = time.Now
	}
	l := &Ledger{
		dir: dir, opts: opts, log: opts.Log, run: newRun(), spill: spill{dir: dir, sync: opts.sync},
		wakeCommitter: make(chan struct{}, 1), wakeSpiller: make(chan struct{}, 1),
		committed: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
		down: errNotOpen, behind: true, spilled: opts.now(),
	}
	l.pending.path = filepath.Join(dir, fmt.Sprintf("ledger.pending-%08x.jsonl", l.run>>32))
	l.keep.Store(int64(opts.Keep))
	return l
}

func setDefault[T comparable](option *T, value T) {
	var zero T
	if *option == zero {
		*option = value
	}
}

// newRun makes the upper half of the ids of a run's rows: 31 random bits. With the
// call's time they tell a row from every other.
func newRun() int64 {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return int64(binary.BigEndian.Uint32(random[:])>>1) << 32
}

func (l *Ledger) path() string { return filepath.Join(l.dir, databaseName) }

// Record writes a row down, within 100 ms as a rule. It waits for nothing. What
// the row points to must not be changed any more. A nil Ledger writes nothing.
func (l *Ledger) Record(row Row) { l.record(&row, false) }

// Pay writes a row down at once, for a call that was paid for. The last byte of
// the answer should wait for its receipt.
func (l *Ledger) Pay(row Row) *Receipt { return l.record(&row, true) }

func (l *Ledger) record(row *Row, wanted bool) *Receipt {
	if l == nil || paused() {
		return nil
	}
	e := newEntry(row)
	e.born = time.Now()
	if wanted {
		e.durable = make(chan struct{})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// What was paid is kept whatever it takes; of free calls memory is dearer.
	if l.closing || len(l.waiting) >= l.opts.maxWaiting && !row.Paid {
		l.lose()
		return &Receipt{}
	}
	e.kind, e.pending = l.kinds.of(row), row.Pending
	if len(e.pending) > 0 {
		e.id = e.pending[0].id
	} else {
		l.next++
		e.id = l.run | l.next
	}
	l.waiting = append(l.waiting, e)
	if len(l.waiting) == 1 || len(l.waiting) == maxBatch || wanted && !l.urgent {
		wake(l.wakeCommitter)
	}
	if len(l.waiting) == 1 || wanted && l.down != nil {
		wake(l.wakeSpiller)
	}
	l.urgent = l.urgent || wanted
	return &Receipt{e}
}

// lose counts a row that is dropped. The caller holds the mutex.
func (l *Ledger) lose() {
	if l.lost == 0 {
		l.log.Error().Msg("the ledger can write to no disk, and drops rows of calls that cost nothing")
	}
	l.lost++
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// markSafe says of rows that they are on a disk. The caller holds the mutex.
func (l *Ledger) markSafe(entries []*entry) {
	for _, e := range entries {
		if !e.safe {
			e.safe = true
			for _, p := range e.pending {
				p.Cancel()
			}
			if e.durable != nil {
				close(e.durable)
			}
		}
	}
}

// announce wakes whoever waits for a change. The caller holds the mutex.
func (l *Ledger) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Sync waits until all that was recorded, and all that was spilled, is in the
// database.
func (l *Ledger) Sync(ctx context.Context) error {
	l.mu.Lock()
	for l.down != nil || l.behind || len(l.waiting)+len(l.inflight) > 0 {
		l.urgent = true
		wake(l.wakeCommitter)
		changed, down := l.changed, l.down
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			if down != nil {
				return fmt.Errorf("the ledger is behind: %s", explain(l.path(), down))
			}
			return fmt.Errorf("the ledger is behind: %w", ctx.Err())
		}
		l.mu.Lock()
	}
	l.mu.Unlock()
	return nil
}

// ReadBack waits until the database works, and has what was spilled before. Calls
// that come meanwhile don't hold it up.
func (l *Ledger) ReadBack(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.down != nil || l.behind {
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
			return err
		}
	}
	return nil
}

// Close writes down what is waiting, to the database or else to the spill, and
// ends the ledger. Rows that come later are lost. It waits as long as ctx at most:
// then a disk hangs, and the error says how many rows are not on it.
func (l *Ledger) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	wake(l.wakeCommitter)
	wake(l.wakeSpiller)
	select {
	case <-l.done:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := 0
	for _, e := range slices.Concat(l.waiting, l.inflight) {
		if !e.safe {
			left++
		}
	}
	if left > 0 {
		return fmt.Errorf("close the ledger: %d calls are in neither %s nor a spill beside it", left, l.path())
	}
	return ctx.Err()
}
