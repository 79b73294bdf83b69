package supervisor

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
	r := newRing()
	for i := 1; i <= 3*ringLines; i++ {
		r.add(fmt.Sprintf("line %d", i), false)
	}
	lines, lost, _ := r.from(1, ringLines)
	if len(lines) != ringLines || lost != 2*ringLines || lines[0].Text != fmt.Sprintf("line %d", 2*ringLines+1) {
		t.Errorf("%d lines from %q on, %d lost", len(lines), lines[0].Text, lost)
	}
	lines, lost, more := r.from(3*ringLines, 10)
	if len(lines) != 1 || lost != 0 || lines[0].Seq != 3*ringLines {
		t.Errorf("the last line: %+v, %d lost", lines, lost)
	}
	select {
	case <-more:
		t.Error("told of a line that has not come")
	default:
	}
	r.add("next", false)
	<-more
}

func TestRingIsBounded(t *testing.T) {
	r := newRing()
	for range 10_000 {
		r.add(strings.Repeat("x", maxLine), false)
	}
	lines, _, _ := r.from(1, ringLines)
	size := 0
	for _, line := range lines {
		size += len(line.Text)
	}
	if size > ringBytes || size < ringBytes/2 {
		t.Errorf("%d bytes kept, want nearly %d", size, ringBytes)
	}
}

// TestFloodWaitsForNobody: a child that prints 100 MB while nobody reads, and
// the log is a pipe that is full, is not held up and costs no memory.
func TestFloodWaitsForNobody(t *testing.T) {
	r := newRing()
	stuck, writer := io.Pipe() // nobody reads it
	ctx, cancel := context.WithCancel(t.Context())
	forwarded := make(chan struct{})
	go func() { defer close(forwarded); forward(ctx, r, zerolog.New(writer)) }()
	out := &lineWriter{emit: func(line string) { r.add(line, false) }}
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
		t.Errorf("100 MB of output hold %d bytes", grown)
	}
	if got := r.count(); got != 1_400_000 {
		t.Errorf("%d lines counted", got)
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, stuck) }()
	<-forwarded
	_ = writer.Close()
}

// TestForwardIsPaced: of a flood, so many lines a second reach the log, and how
// many do not is said.
func TestForwardIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := newRing(), &strings.Builder{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); forward(ctx, r, zerolog.New(log).Level(zerolog.DebugLevel)) }()
		synctest.Wait()
		for range 10_000 {
			r.add("flood", false)
		}
		time.Sleep(10 * forwardEvery)
		r.add("0.00.015.083 E gguf_init: the end", false)
		time.Sleep(forwardEvery)
		cancel()
		<-done
		if n := strings.Count(log.String(), `"message":"flood"`); n > ringLines+2*forwardBurst || n < ringLines/2 {
			t.Errorf("%d of 10,000 lines in the log", n)
		}
		if !strings.Contains(log.String(), "lines are left out") {
			t.Error("nothing says that lines were left out")
		}
		if !strings.Contains(log.String(), `{"level":"error","message":"0.00.015.083 E gguf_init: the end"}`) {
			t.Error("the line after the flood is missing, or not an error")
		}
	})
}

func TestLevelOf(t *testing.T) {
	for line, want := range map[string]zerolog.Level{
		"0.00.012.096 I srv  llama_server: initializing ...": zerolog.DebugLevel,
		"0.00.284.692 W srv  llama_server: no API key":       zerolog.WarnLevel,
		"0.00.015.083 E gguf_init_from_reader: invalid":      zerolog.ErrorLevel,
		"0.00.015.083 D debug":                               zerolog.DebugLevel,
		"error: invalid argument: --x":                       zerolog.ErrorLevel,
		"warning: no usable GPU found":                       zerolog.WarnLevel,
		"main: server is listening":                          zerolog.DebugLevel,
	} {
		if got := levelOf(line); got != want {
			t.Errorf("%q has level %s, want %s", line, got, want)
		}
	}
}
