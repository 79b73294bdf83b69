package output

import (
	"sync"
	"time"
)

const (
	ringLines = 2000
	ringBytes = 1 << 20
)

// Line is a line that a server's process printed.
type Line struct {
	Seq  uint64 // counts a server's lines from 1
	At   time.Time
	Text string

	serving bool // the server was taking calls: the line may quote one
}

// Ring keeps the last lines of a server's output, across restarts: 2,000 lines
// and 1 MiB of text at most. Writing never waits for a reader. One that is too
// slow misses lines, and learns how many.
type Ring struct {
	mu    sync.Mutex
	lines []Line // line n is at n % ringLines
	first uint64 // number of the oldest line kept
	next  uint64 // number of the line to come
	bytes int
	added chan struct{} // closed when the next line is added
}

// NewRing returns an empty ring.
func NewRing() *Ring {
	return &Ring{lines: make([]Line, ringLines), first: 1, next: 1, added: make(chan struct{})}
}

// Add appends a line. serving says that the server was taking calls, so that the
// line may quote one.
func (r *Ring) Add(text string, serving bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next-r.first == ringLines {
		r.drop()
	}
	r.lines[r.next%ringLines] = Line{Seq: r.next, At: time.Now(), Text: text, serving: serving}
	r.next++
	for r.bytes += len(text); r.bytes > ringBytes; {
		r.drop()
	}
	close(r.added)
	r.added = make(chan struct{})
}

// drop removes the oldest line.
func (r *Ring) drop() {
	oldest := &r.lines[r.first%ringLines]
	r.bytes -= len(oldest.Text)
	*oldest = Line{}
	r.first++
}

// Count returns how many lines have been added.
func (r *Ring) Count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1
}

// From returns up to limit lines from number seq on, how many lines from there on
// are no longer kept, and a channel that is closed when a later line is added.
func (r *Ring) From(seq uint64, limit int) (lines []Line, lost uint64, added <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq < r.first {
		lost, seq = r.first-seq, r.first
	}
	for ; seq < r.next && len(lines) < limit; seq++ {
		lines = append(lines, r.lines[seq%ringLines])
	}
	return lines, lost, r.added
}

// Last returns the last n lines, the oldest first, and the number of the last
// line.
func (r *Ring) Last(n int) (lines []Line, last uint64) {
	last = r.Count()
	lines, _, _ = r.From(last-min(last, uint64(max(n, 0)))+1, ringLines)
	return lines, last
}

// After returns the lines after number seq, how many of them are no longer kept,
// and a channel that is closed when a later line is added.
func (r *Ring) After(seq uint64) (lines []Line, lost uint64, added <-chan struct{}) {
	return r.From(seq+1, ringLines)
}
