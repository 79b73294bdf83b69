package main

import (
	"fmt"
	"strings"
	"testing"
)

// writes hands on what is written to it, write by write.
type writes chan string

func (w writes) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func TestLogLinesAreWrittenTogether(t *testing.T) {
	out := make(writes, 10)
	b := newBatch(out)
	defer b.Close()
	var want, got strings.Builder
	for n := range 100 {
		line := fmt.Sprintf("line %d\n", n)
		want.WriteString(line)
		if _, err := b.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	for got.Len() < want.Len() { // though nobody closes it
		got.WriteString(<-out)
	}
	if got.String() != want.String() {
		t.Errorf("it wrote %q, want %q", got.String(), want.String())
	}
}

func TestLogKeepsNoMoreThanABatch(t *testing.T) {
	out := make(writes, 10)
	b := newBatch(out)
	defer b.Close()
	much := strings.Repeat("x", logBatch)
	for range 3 {
		if _, err := b.Write([]byte(much)); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-out:
			if len(got) != logBatch {
				t.Errorf("it wrote %d bytes, want %d", len(got), logBatch)
			}
		default:
			t.Error("it holds more than a batch")
		}
	}
}

func TestLogIsWholeAtItsEnd(t *testing.T) {
	out := make(writes, 10)
	b := newBatch(out)
	if _, err := b.Write([]byte("last words\n")); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-out:
		if got != "last words\n" {
			t.Errorf("it wrote %q", got)
		}
	default:
		t.Error("it closed without its last line")
	}
}
