package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

const (
	// Each llmsup has a file of its own, named after its run.
	pendingPattern = "ledger.pending-*.jsonl"
	// maxPendingSize is the size of the file, in bytes, from which on it is written
	// anew with the calls alone that are still under way.
	maxPendingSize = 1 << 20
)

// Pending is a paid call that is under way. What it may cost is written beside the
// database before the call is made, so that it counts even if llmsup is killed
// meanwhile. The call's row ends it (Row.Pending), or Cancel. A nil Pending is of a
// ledger that writes nothing.
type Pending struct {
	calls *pendingCalls
	id    int64 // the row's, too: a row that is there already is not added again
}

// pendingCalls is the file of the calls that are under way: a line for each that
// begins, as in a spill file, and one for each that has ended. A plain write
// survives kill -9; it is not on the disk yet, so that a power failure may cost
// these lines.
type pendingCalls struct {
	path   string
	failed atomic.Bool // the last line could not be written

	mu    sync.Mutex
	file  *os.File // nil = not open
	size  int64
	lines map[int64][]byte // of the calls that are under way
}

// Begin writes down that a paid call is made: what is known of it, and in Charged
// what it may cost. Where that can't be written, the log says so, and the call is
// made all the same.
func (l *Ledger) Begin(row Row) *Pending {
	if l == nil || paused() {
		return nil
	}
	e := newEntry(&row)
	l.mu.Lock()
	l.next++
	e.id, e.kind = l.run|l.next, l.kinds.of(&row)
	l.mu.Unlock()
	err := l.pending.add(e)
	if failed := l.pending.failed.Swap(err != nil); err != nil && !failed {
		l.log.Error().Err(err).Msg("paid calls in flight can't be recorded; if llmsup is killed, budgets will not count them")
	}
	return &Pending{&l.pending, e.id}
}

// Cancel ends a call for which nothing was paid. More than once does no harm.
func (p *Pending) Cancel() {
	if p != nil {
		p.calls.remove(p.id)
	}
}

func (c *pendingCalls) add(e *entry) error {
	line := e.line()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines == nil {
		c.lines = map[int64][]byte{}
	}
	c.lines[e.id] = line
	if c.size > maxPendingSize || c.file == nil || !isNamed(c.file) {
		return c.rewrite()
	}
	return c.write(line)
}

func (c *pendingCalls) remove(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines[id] == nil {
		return
	}
	delete(c.lines, id)
	_ = c.write(fmt.Appendf(nil, `{"ended":%d}`+"\n", id)) // without it the call's row is found to be there
}

func (c *pendingCalls) write(line []byte) error {
	if c.file == nil {
		return fs.ErrClosed
	}
	n, err := c.file.WriteAt(line, c.size)
	if err == nil {
		c.size += int64(n)
	}
	return err
}

// rewrite puts a file in place of the present one that has only the calls that are
// under way.
func (c *pendingCalls) rewrite() error {
	makeFolder(filepath.Dir(c.path))
	var lines []byte
	for _, line := range c.lines {
		lines = append(lines, line...)
	}
	fresh := c.path + ".new"
	err := os.WriteFile(fresh, lines, 0o600)
	if err == nil {
		err = os.Rename(fresh, c.path)
	}
	if err != nil {
		_ = os.Remove(fresh)
		return err
	}
	if c.file != nil {
		_ = c.file.Close()
	}
	// Opened by its name: isNamed compares with it.
	c.file, err = os.OpenFile(c.path, os.O_RDWR, 0o600)
	c.size = int64(len(lines))
	return err
}

// close removes the file, unless calls in it have not ended.
func (c *pendingCalls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return
	}
	if len(c.lines) == 0 && isNamed(c.file) {
		_ = os.Remove(c.file.Name())
	}
	_ = c.file.Close()
	c.file = nil
}

// takeOverPending writes a row for each paid call that was under way when an
// earlier llmsup was killed: its cost is unknown, and budgets count what was
// reserved for it. The rows go into a spill file, from which they are read back.
func (l *Ledger) takeOverPending() {
	found, err := filepath.Glob(filepath.Join(globQuote(l.dir), pendingPattern))
	for _, path := range found {
		if path == l.pending.path {
			continue
		}
		entries, readErr := readPending(path)
		if readErr == nil && len(entries) > 0 {
			readErr = l.spill.write(entries)
		}
		if readErr != nil {
			err = readErr
			continue
		}
		if len(entries) > 0 {
			l.log.Warn().Int("calls", len(entries)).Msg("llmsup was killed while paid calls were under way; budgets count what was reserved for them")
		}
		_ = os.Remove(path) // read again, its rows are found to be there
	}
	if err != nil {
		l.log.Error().Err(err).Msg("the paid calls that were under way when llmsup was killed could not be read; the next start tries again")
	}
}

// readPending returns the calls of a file that have not ended. A line that was cut
// is passed over.
func readPending(path string) ([]*entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	begun := map[int64]*entry{}
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, maxLine), maxLine)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if e, ok := parseLine(line); ok {
			begun[e.id] = e
			continue
		}
		var id int64
		if _, err := fmt.Sscanf(string(line), `{"ended":%d}`, &id); err == nil {
			delete(begun, id)
		}
	}
	entries := make([]*entry, 0, len(begun))
	for _, e := range begun {
		entries = append(entries, e)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) { // a power failure can leave anything behind what was written
		return entries, nil
	}
	return entries, lines.Err()
}
