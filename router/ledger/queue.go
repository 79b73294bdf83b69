package ledger

import (
	"sync"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// queue has the lines that wait for the writer, in order. There is one for all lines
// about paid calls, and one for the others: on a full disk only the first has room. The
// ledger's mutex guards it.
type queue struct {
	paid    bool
	items   []*Receipt
	writing []*Receipt    // with the writer
	err     error         // why the last write failed; nil = it did not
	retryAt time.Time     // with err: when the next write is tried
	failed  chan struct{} // closed when a write fails or hangs
	lastTry bool          // the ledger is being closed, and all lines have been tried once more
}

// due returns in what time the writer has something to do; ok is false if it has
// nothing. After a failed write it tries an empty queue, too.
func (q *queue) due(now time.Time, closing bool) (in time.Duration, ok bool) {
	switch {
	case closing:
		return 0, len(q.items) > 0 && !q.lastTry
	case q.err != nil:
		return max(q.retryAt.Sub(now), 0), true
	default:
		return 0, len(q.items) > 0
	}
}

// release ends the wait of all calls for lines of the queue.
func (q *queue) release() {
	close(q.failed)
	q.failed = make(chan struct{})
}

// oldest returns when the first of the queue's lines was queued; zero = there is none.
func (q *queue) oldest() time.Time {
	for _, items := range [][]*Receipt{q.writing, q.items} {
		if len(items) > 0 {
			return items[0].queuedAt
		}
	}
	return time.Time{}
}

func (q *queue) len() int { return len(q.items) + len(q.writing) }

// Receipt is a line on its way to the journal. Its caller may wait for it.
type Receipt struct {
	ledger   *Ledger
	line     journal.Line
	queuedAt time.Time
	written  chan struct{}   // closed when the line is in the journal; nil = it was dropped
	failed   <-chan struct{} // closed when the journal cannot be written
}

// maxWait bounds how long a call waits for its line.
const maxWait = time.Second

var timers = sync.Pool{New: func() any { return time.NewTimer(maxWait) }}

// Wait waits until the line is in the journal, and returns whether it is. It gives up
// after a second and, while the journal cannot be written, at once: the line stays in
// memory then. A nil Receipt is of a ledger that records nothing: Wait returns true.
func (r *Receipt) Wait() bool {
	if r == nil {
		return true
	}
	select {
	case <-r.written: // whatever failed later
		return true
	default:
	}
	timer := timers.Get().(*time.Timer)
	defer timers.Put(timer)
	timer.Reset(maxWait)
	defer timer.Stop()
	select {
	case <-r.written:
		return true
	case <-r.failed:
		return false
	case <-timer.C:
		r.ledger.setWriteHung()
		return false
	}
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// setWriteHung records that a write hangs. Until it returns, calls do not wait for the
// writer.
func (l *Ledger) setWriteHung() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeHung = true
	l.publish() // the log says it before the first call that is not in the journal
	for _, q := range l.queues {
		q.release()
	}
}

// enqueue queues a line for the writer. It does not block.
func (l *Ledger) enqueue(line journal.Line, paid bool) *Receipt {
	r := &Receipt{ledger: l, line: line, queuedAt: time.Now(), failed: closedChannel}
	q := l.queues[0]
	if !paid {
		q = l.queues[1]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Lines about paid calls are never dropped.
	if l.closing || !paid && len(q.items) >= l.opts.maxWaiting {
		l.drop(&line)
		return r
	}
	r.written = make(chan struct{})
	if q.err == nil && !l.writeHung {
		r.failed = q.failed
	}
	q.items = append(q.items, r)
	if len(q.items) == 1 {
		wake(l.wakeWriter)
	}
	return r
}

// drop counts a row that is dropped. The caller holds the mutex.
func (l *Ledger) drop(line *journal.Line) {
	if line.Kind != journal.RowLine {
		return
	}
	if l.dropped == 0 && !l.closing {
		l.log.Error().Msg("the ledger cannot write to the disk; rows of calls that cost nothing are dropped")
	}
	l.dropped++
}
