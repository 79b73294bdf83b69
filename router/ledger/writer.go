package ledger

import (
	"runtime"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// rotation asks the writer to change to the next journal file and to return the previous
// one. The committer creates the next file, since calls wait for the writer: it does
// nothing that takes long on a busy disk.
type rotation struct {
	next *journal.Segment
	done chan struct{} // closed when file and err are set
	file *journal.File
	err  error
}

// write is the writer's goroutine, the only one that appends to the journal.
func (l *Ledger) write() {
	defer close(l.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, q := range l.queues {
		l.writeQueue(q, nil) // creates the first file, so that it has room even if the disk fills up
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
			runtime.Gosched() // lets calls that end at the same time share a write
		case <-timer.C:
		case r := <-l.rotate:
			l.rotateJournal(r)
		case <-l.stop:
			return
		}
	}
}

// nextBatch returns the queue and the lines to write now. Without any, q is nil and wait
// is how long there is nothing to do unless something wakes the writer.
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
			q.writing, q.items, q.lastTry = q.items, nil, l.closing
			return q, q.writing, 0
		default:
			wait = min(wait, in)
		}
	}
	return nil, nil, wait
}

// writeQueue appends lines of a queue to the journal. Lines that cannot be written stay in
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
	changed := l.writeHung || (err == nil) != (q.err == nil)
	l.writeHung, q.err = false, err
	if err != nil {
		q.retryAt = time.Now().Add(l.opts.retry)
		q.release()
	}
	if changed {
		l.publish()
	}
}

// rotateJournal changes to the next file, and returns the previous one to the committer.
func (l *Ledger) rotateJournal(r *rotation) {
	defer close(r.done)
	r.file, r.err = l.journal.Rotate(r.next)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeHung = false
	if r.err == nil {
		l.oldestImport = l.oldest
		if l.rows = l.journal.Waiting(); l.rows == 0 {
			l.oldest, l.urgent = time.Time{}, false
		}
	}
}
