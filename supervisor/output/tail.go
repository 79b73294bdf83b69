package output

import "sync"

// tailBytes is how much of the end of a process's output a Tail keeps.
const tailBytes = 8 << 10

// Tail keeps the last lines of a process's output, 8 KiB at most. The zero value
// is empty and ready to use.
type Tail struct {
	mu    sync.Mutex
	lines []string
	bytes int
}

// Add appends a line.
func (t *Tail) Add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	t.bytes += len(line)
	for t.bytes > tailBytes && len(t.lines) > 1 {
		t.bytes -= len(t.lines[0])
		t.lines[0] = "" // frees the line: the slice's array stays
		t.lines = t.lines[1:]
	}
}

// Lines returns a copy of the lines that are kept.
func (t *Tail) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string{}, t.lines...)
}
