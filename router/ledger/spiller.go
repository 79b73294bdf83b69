package ledger

import "time"

const (
	// maxSpillBatch bounds what is written to a spill at once. After a write that
	// failed it is tried with fewer, minSpillBatch at first.
	maxSpillBatch = 4096
	minSpillBatch = 64
)

// spiller writes rows beside the database when that does not take them. It is one
// goroutine's.
type spiller struct {
	*Ledger
	retryAt time.Time // after a write that failed: when the next is tried; zero = it did not fail
	most    int       // rows in a write
}

// spillOver is the spiller's goroutine. It outlives the committer, and then writes
// what that could not.
func (l *Ledger) spillOver() {
	defer close(l.done)
	defer l.spill.close()
	defer l.pending.close()
	s := &spiller{Ledger: l, most: maxSpillBatch}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ended := false; ; {
		batch, wait := s.overdue(ended)
		if len(batch) > 0 {
			whole := s.write(batch)
			if whole || !ended {
				continue
			}
		}
		if ended {
			return
		}
		timer.Reset(wait)
		select {
		case <-l.wakeSpiller:
		case <-timer.C:
		case <-l.committed:
			ended = true
		}
	}
}

// overdue returns the rows that the database should have had by now, those that
// were paid for first, or how long there are none unless somebody wakes the
// spiller. When the committer has ended those are all that there are.
func (s *spiller) overdue(ended bool) (batch []*entry, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	pause := s.retryAt.Sub(now)
	var free []*entry
	due := false
	for _, list := range [][]*entry{s.inflight, s.waiting} {
		for _, e := range list {
			if e.safe {
				continue
			}
			left := s.dueIn(e, now)
			if pause > 0 && (!e.kind.paid || e.refused) { // there is no room, nor any in the reserve
				left = max(left, pause)
			}
			if ended {
				left = 0
			}
			wait = min(wait, max(left, 0))
			due = due || left <= 0
			switch { // what would be due soon goes with the others: it is one write
			case left > 0 && pause > 0:
			case e.kind.paid && len(batch) < s.most:
				batch = append(batch, e)
			case !e.kind.paid && len(free) < s.most:
				free = append(free, e)
			}
		}
	}
	if !due {
		return nil, wait
	}
	batch = append(batch, free[:min(len(free), s.most-len(batch))]...)
	for _, e := range batch {
		e.spilling = true
	}
	return batch, 0
}

// freePatience is how many times as long as for others the database may take for
// rows that nobody waits for: on a busy machine spilling them is only more work.
const freePatience = 20

// dueIn returns when a row is spilled: without a database at once if somebody
// waits for it, else with others; with one when that had its time.
func (l *Ledger) dueIn(e *entry, now time.Time) time.Duration {
	switch {
	case l.down == nil || l.down == errNotOpen:
		patience := l.opts.patience
		if e.durable == nil && len(l.waiting) < l.opts.maxWaiting/2 {
			patience *= freePatience
		}
		return e.born.Add(patience).Sub(now)
	case e.durable != nil:
		return 0
	default:
		return e.born.Add(l.opts.interval).Sub(now)
	}
}

// write writes rows to the spill or, where there is no room, those that were paid
// for to the reserve, and says whether all of them are on the disk. What is not
// stays in memory.
func (s *spiller) write(batch []*entry) (whole bool) {
	err := s.spill.write(batch)
	safe := batch
	if err == nil {
		s.retryAt, s.most = time.Time{}, min(2*s.most, maxSpillBatch)
	} else {
		s.retryAt, s.most = time.Now().Add(s.opts.retry), minSpillBatch
		n := 0
		for n < len(batch) && batch[n].kind.paid {
			n++
		}
		safe = batch[:s.spill.save(batch[:n])]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markSafe(safe)
	for _, e := range batch {
		e.spilling, e.refused = false, !e.safe
	}
	if len(safe) > 0 {
		s.spills++
		if !s.behind {
			s.behind, s.spilled = true, s.opts.now()
		}
		rest := s.waiting[:0:0]
		for _, e := range s.waiting {
			if !e.safe {
				rest = append(rest, e)
			}
		}
		s.waiting = rest
	}
	s.noSpill = err
	wake(s.wakeCommitter)
	s.tell()
	return len(safe) == len(batch)
}
