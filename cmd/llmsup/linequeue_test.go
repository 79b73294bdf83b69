package main

import (
	"strings"
	"testing"
)

// heldWriter is a log whose reader reads a line when the test does.
type heldWriter struct {
	reading chan struct{} // has a value when a line waits for its reader
	read    chan string
}

func (h heldWriter) Write(line []byte) (int, error) {
	h.reading <- struct{}{}
	h.read <- string(line)
	return len(line), nil
}

func (h heldWriter) Close() error {
	close(h.read)
	return nil
}

// TestLineQueue: each line arrives without a later one. While the reader of the log does not read,
// writing does not wait, and the oldest lines are dropped. Close writes the rest.
func TestLineQueue(t *testing.T) {
	out := heldWriter{make(chan struct{}, 100), make(chan string)}
	q := newLineQueue(out, 2)
	write := func(line string) {
		t.Helper()
		buffer := []byte(line)
		if n, err := q.Write(buffer); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
		clear(buffer) // zerolog uses it again
	}
	for _, line := range []string{"a", "b"} {
		write(line)
		if got := <-out.read; got != line {
			t.Errorf("%q arrives, want %q", got, line)
		}
		<-out.reading
	}
	write("c")
	<-out.reading
	for _, line := range []string{"d", "e", "f"} {
		write(line)
	}
	closed := make(chan error)
	go func() { closed <- q.Close() }()
	var got strings.Builder
	for line := range out.read {
		got.WriteString(line)
	}
	if err := <-closed; err != nil || got.String() != "cef" {
		t.Errorf("%q arrives, want cef; %v", &got, err)
	}
	if err := q.Close(); err != nil { // again
		t.Error(err)
	}
}
