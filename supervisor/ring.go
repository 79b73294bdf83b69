package supervisor

import (
	"sync"
	"time"
)

const (
	ringLines = 2000
	ringBytes = 1 << 20
)

// Line is a line that llama-server printed.
type Line struct {
	Seq  uint64 // counts a server's lines from 1
	At   time.Time
	Text string

	serving bool // the server was taking calls: the line may quote one
}

// ring keeps the last lines of a server's output, over restarts: ringLines, and
// ringBytes of text, at most. Writing never waits for a reader; one that is too
// slow finds that lines are missing, and how many.
type ring struct {
	mu    sync.Mutex
	lines []Line // a circle, in which line n stands at n % ringLines
	first uint64 // the oldest line kept
	next  uint64 // the line to come
	bytes int
	more  chan struct{} // closed when the next line comes
}

func newRing() *ring {
	return &ring{lines: make([]Line, ringLines), first: 1, next: 1, more: make(chan struct{})}
}

func (r *ring) add(text string, serving bool) {
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
	close(r.more)
	r.more = make(chan struct{})
}

// drop lets the oldest line go.
func (r *ring) drop() {
	slot := &r.lines[r.first%ringLines]
	r.bytes -= len(slot.Text)
	*slot = Line{}
	r.first++
}

// count returns how many lines there have been.
func (r *ring) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1
}

// from returns the lines from number seq on, most at most, how many before them
// are lost, and a channel that is closed when there is a later one.
func (r *ring) from(seq uint64, most int) (lines []Line, lost uint64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq < r.first {
		lost, seq = r.first-seq, r.first
	}
	for ; seq < r.next && len(lines) < most; seq++ {
		lines = append(lines, r.lines[seq%ringLines])
	}
	return lines, lost, r.more
}

// Tail returns the server's last n lines, the oldest first, and the number of
// the last line there is.
func (s *Server) Tail(n int) (lines []Line, last uint64) {
	last = s.output.count()
	lines, _, _ = s.output.from(last-min(last, uint64(max(n, 0)))+1, ringLines)
	return lines, last
}

// After returns the lines after number seq, how many of them are lost because
// the reader was too slow, and a channel that is closed when there are more.
func (s *Server) After(seq uint64) (lines []Line, lost uint64, more <-chan struct{}) {
	return s.output.from(seq+1, ringLines)
}
