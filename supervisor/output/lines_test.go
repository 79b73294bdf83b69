package output

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestLineWriterAnySplit(t *testing.T) {
	const output = "first\r\nsecond\n\n  third\nno end"
	want := []string{"first", "second", "  third", "no end"}
	for cut := range len(output) {
		var got []string
		w := &LineWriter{Emit: func(line string) { got = append(got, line) }}
		for _, part := range []string{output[:cut], output[cut:]} {
			if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		w.Flush()
		if !slices.Equal(got, want) {
			t.Errorf("cut at %d: %q, want %q", cut, got, want)
		}
	}
}

func TestLineWriterBoundsALine(t *testing.T) {
	var got []string
	w := &LineWriter{Emit: func(line string) { got = append(got, line) }}
	chunk := []byte(strings.Repeat("x", 64<<10))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 160 { // 10 MB without an end of line
		_, _ = w.Write(chunk)
	}
	_, _ = w.Write([]byte("\nnext\n"))
	runtime.ReadMemStats(&after)
	if len(got) != 2 || len(got[0]) > maxLine+10 || got[1] != "next" {
		t.Fatalf("%d lines, the first of %d bytes", len(got), len(got[0]))
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("a 10 MB line cost %d bytes", grown)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	kept := &Tail{}
	for i := range 10_000 {
		kept.Add(fmt.Sprintf("line %d", i))
	}
	lines := kept.Lines()
	if last := lines[len(lines)-1]; last != "line 9999" {
		t.Errorf("last line is %q", last)
	}
	if size := len(strings.Join(lines, "")); size > tailBytes || size < tailBytes/2 {
		t.Errorf("%d bytes kept, want nearly %d", size, tailBytes)
	}
}
