package ledger

import (
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// queuedLine is a line on its way to the journal.
type queuedLine struct {
	line     *journal.Line
	queuedAt time.Time
	written  chan struct{} // closed when the line is in the journal
}

// queue has the lines that wait for the writer, in their order. There is one for all
// lines about paid calls, and one for the others: on a full disk only the first has
// room. The ledger's mutex guards it.
type queue struct {
	paid    bool
	items   []*queuedLine
	writing []*queuedLine // with the writer
	err     error         // why the last write failed; nil = it did not
	retryAt time.Time     // with err: when the next is tried
	failed  chan struct{} // closed when a write fails or hangs
	last    bool          // the ledger is being closed, and all lines have been tried once more
}

// due returns when the writer has something to do. An empty queue whose last write
// failed is tried, too.
func (q *queue) due(now time.Time, closing bool) (in time.Duration, ok bool) {
	switch {
	case closing:
		return 0, len(q.items) > 0 && !q.last
	case q.err != nil:
		return max(q.retryAt.Sub(now), 0), true
	default:
		return 0, len(q.items) > 0
	}
}

// release lets the calls continue that wait for the queue's lines to be written.
func (q *queue) release() {
	close(q.failed)
	q.failed = make(chan struct{})
}

// oldest returns when the first of the queue's lines was queued; zero = there is none.
func (q *queue) oldest() time.Time {
	for _, items := range [][]*queuedLine{q.writing, q.items} {
		if len(items) > 0 {
			return items[0].queuedAt
		}
	}
	return time.Time{}
}

func (q *queue) len() int { return len(q.items) + len(q.writing) }

// Receipt is of a line that a caller may wait for.
type Receipt struct {
	ledger *Ledger
	queue  *queue
	item   *queuedLine // nil = it was dropped
}

// maxWait bounds how long a call waits for its line.
const maxWait = time.Second

// Wait waits until the line is in the journal, and says whether it is. It gives up
// after a second and, while the journal cannot be written, at once: then the line
// stays in memory. Without a ledger there is nothing to wait for.
func (r *Receipt) Wait() bool {
	if r == nil {
		return true
	}
	if r.item == nil {
		return false
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-r.item.written:
		return true
	case <-r.ledger.failure(r.queue):
		return false
	case <-timer.C:
		r.ledger.writeHangs()
		return false
	}
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// failure returns a channel that is closed when a queue's lines cannot be written.
func (l *Ledger) failure(q *queue) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.err != nil || l.hangs {
		return closedChannel
	}
	return q.failed
}

// writeHangs notes that a write hangs. Until it returns, calls don't wait for the
// writer.
func (l *Ledger) writeHangs() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangs = true
	for _, q := range l.queues {
		q.release()
	}
	l.publish()
}

// enqueue queues a line for the writer. It waits for nothing.
func (l *Ledger) enqueue(line *journal.Line, paid bool) *Receipt {
	i := &queuedLine{line: line, queuedAt: time.Now(), written: make(chan struct{})}
	q := l.queues[0]
	if !paid {
		q = l.queues[1]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Lines about paid calls are kept in any case.
	if l.closing || !paid && len(q.items) >= l.opts.maxWaiting {
		l.drop(line)
		return &Receipt{ledger: l}
	}
	q.items = append(q.items, i)
	if len(q.items) == 1 {
		wake(l.wakeWriter)
	}
	return &Receipt{l, q, i}
}

// drop counts a row that is dropped. The caller holds the mutex.
func (l *Ledger) drop(line *journal.Line) {
	if line.Kind != journal.RowLine {
		return
	}
	if l.lost == 0 && !l.closing {
		l.log.Error().Msg("the ledger cannot be written to the disk; rows of calls that were not paid for are dropped")
	}
	l.lost++
}
