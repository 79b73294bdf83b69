package output

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestRing(t *testing.T) {
	r := NewRing()
	for i := 1; i <= 3*ringLines; i++ {
		r.Add(fmt.Sprintf("line %d", i), false)
	}
	lines, lost, _ := r.From(1, ringLines)
	if len(lines) != ringLines || lost != 2*ringLines || lines[0].Text != fmt.Sprintf("line %d", 2*ringLines+1) {
		t.Errorf("%d lines from %q on, %d lost", len(lines), lines[0].Text, lost)
	}
	lines, lost, more := r.From(3*ringLines, 10)
	if len(lines) != 1 || lost != 0 || lines[0].Seq != 3*ringLines {
		t.Errorf("the last line: %+v, %d lost", lines, lost)
	}
	select {
	case <-more:
		t.Error("added is closed before another line is added")
	default:
	}
	r.Add("next", false)
	<-more
}

func TestRingIsBounded(t *testing.T) {
	r := NewRing()
	for range 10_000 {
		r.Add(strings.Repeat("x", maxLine), false)
	}
	lines, _, _ := r.From(1, ringLines)
	size := 0
	for _, line := range lines {
		size += len(line.Text)
	}
	if size > ringBytes || size < ringBytes/2 {
		t.Errorf("%d bytes kept, want nearly %d", size, ringBytes)
	}
}

// TestFloodDoesNotBlock: a process that prints 100 MB while no reader reads, and the log
// is a full pipe, is not delayed and costs no memory.
func TestFloodDoesNotBlock(t *testing.T) {
	r := NewRing()
	stuck, writer := io.Pipe() // without a reader
	ctx, cancel := context.WithCancel(t.Context())
	forwarded := make(chan struct{})
	go func() { defer close(forwarded); CopyToLog(ctx, r, zerolog.New(writer), asError) }()
	out := &LineWriter{Emit: func(line string) { r.Add(line, false) }}
	chunk := []byte(strings.Repeat("0.00.000.001 E a line of a child that floods, sixty-four bytes long ..\n", 1000))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 1400 {
		_, _ = out.Write(chunk)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("100 MB of output occupy %d bytes", grown)
	}
	if got := r.Count(); got != 1_400_000 {
		t.Errorf("%d lines counted", got)
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, stuck) }()
	<-forwarded
	_ = writer.Close()
}

// TestLogIsPaced: of a flood, so many lines a second reach the log, and the number of
// those that do not.
func TestLogIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := NewRing(), &strings.Builder{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); CopyToLog(ctx, r, zerolog.New(log).Level(zerolog.DebugLevel), asError) }()
		synctest.Wait()
		for range 10_000 {
			r.Add("flood", false)
		}
		time.Sleep(10 * logWindow)
		r.Add("0.00.015.083 E gguf_init: the end", false)
		time.Sleep(logWindow)
		cancel()
		<-done
		if n := strings.Count(log.String(), `"message":"flood"`); n > ringLines+2*logBurst || n < ringLines/2 {
			t.Errorf("%d of 10,000 lines in the log", n)
		}
		if !strings.Contains(log.String(), "lines are left out") {
			t.Error("no line reports that lines were left out")
		}
		if !strings.Contains(log.String(), `{"level":"error","message":"0.00.015.083 E gguf_init: the end"}`) {
			t.Error("the line after the flood is missing, or not an error")
		}
	})
}
