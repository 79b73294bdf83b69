package ledger

import (
	"runtime"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// rotation asks the writer for the rows of the journal, and for using another file from
// then on. The committer creates that: the writer, which calls wait for, does nothing
// that takes long on a busy disk.
type rotation struct {
	next *journal.Segment
	done chan struct{} // closed when file and err are set
	file *journal.File
	err  error
}

// write is the writer: the one goroutine that appends to the journal.
func (l *Ledger) write() {
	defer close(l.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, q := range l.queues {
		l.writeQueue(q, nil) // so that there is a file, and room in it even if the disk gets full
	}
	for {
		q, batch, wait := l.nextBatch()
		if q != nil {
			l.writeQueue(q, batch)
			select {
			case r := <-l.rotate:
				l.rotateJournal(r)
			default:
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-l.wakeWriter:
			runtime.Gosched() // calls that end at the same time are written at once
		case <-timer.C:
		case r := <-l.rotate:
			l.rotateJournal(r)
		case <-l.stop:
			return
		}
	}
}

// nextBatch returns the lines to write now, or else, with no queue, how long there are
// none unless something wakes the writer.
func (l *Ledger) nextBatch() (q *queue, batch []*Receipt, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	for _, q := range l.queues {
		in, ok := q.due(now, l.closing)
		switch {
		case !ok:
		case in <= 0:
			q.writing, q.items, q.last = q.items, nil, l.closing
			return q, q.writing, 0
		default:
			wait = min(wait, in)
		}
	}
	return nil, nil, wait
}

// writeQueue appends lines of a queue to the journal. What cannot be written stays in
// the queue.
func (l *Ledger) writeQueue(q *queue, batch []*Receipt) {
	l.lines = l.lines[:0]
	for _, i := range batch {
		l.lines = append(l.lines, &i.line)
	}
	n, err := l.journal.Append(l.lines, q.paid)
	clear(l.lines)
	if cap(l.lines) > journal.MaxRows {
		l.lines = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range batch[:n] {
		close(i.written)
		if i.line.Kind == journal.RowLine && l.oldest.IsZero() {
			l.oldest = i.queuedAt
			wake(l.wakeCommitter)
		}
	}
	q.writing = nil
	if n < len(batch) {
		q.items = append(batch[n:len(batch):len(batch)], q.items...)
	}
	if l.rows = l.journal.Waiting(); l.rows >= journal.MaxRows || l.urgent || l.closing {
		wake(l.wakeCommitter)
	}
	changed := l.hangs || (err == nil) != (q.err == nil)
	l.hangs, q.err = false, err
	if err != nil {
		q.retryAt = time.Now().Add(l.opts.retry)
		q.release()
	}
	if changed {
		l.publish()
	}
}

// rotateJournal begins another file, and gives the previous one to the committer.
func (l *Ledger) rotateJournal(r *rotation) {
	defer close(r.done)
	r.file, r.err = l.journal.Rotate(r.next)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangs = false
	if r.err == nil {
		l.oldestImport = l.oldest
		if l.rows = l.journal.Waiting(); l.rows == 0 {
			l.oldest, l.urgent = time.Time{}, false
		}
	}
}
