package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// watch fetches a value and shows it, again and again until ctx ends. On a terminal
// each output replaces the one before.
func watch[T any](ctx context.Context, every time.Duration, out *os.File, fetch func(context.Context) (T, error), show func(io.Writer, T) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	live := isTerminal(out) && os.Getenv("TERM") != "dumb"
	var shown frame
	for {
		value, err := fetch(ctx)
		switch {
		case ctx.Err() != nil: // Ctrl-C, the normal end
			err = nil
		case err != nil:
		case live:
			var text bytes.Buffer
			if err = show(&text, value); err == nil {
				columns, rows := windowSize(out)
				_, err = io.WriteString(out, shown.redraw(text.String(), columns, rows))
			}
		default:
			err = show(out, value)
		}
		if ctx.Err() != nil && live {
			fmt.Fprintln(out) // after the ^C
		}
		if ctx.Err() != nil || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// frame is an output on a terminal that the next one replaces. It overwrites only
// its own lines: what stands above them, and what has scrolled away, stays.
type frame struct{ lines, columns, rows int }

// redraw returns the characters that replace the frame by a text, as far as the
// window has room. After the window was resized the old frame stays, since terminals
// differ in how they re-wrap its lines.
func (f *frame) redraw(text string, columns, rows int) string {
	if columns == 0 || rows == 0 {
		columns, rows = pageWidth, 24
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if room := max(rows-1, 1); len(lines) > room { // the cursor stands below the last line
		more := fmt.Sprintf("(%d more lines; make the window taller)", len(lines)-room+1)
		lines = append(lines[:room-1:room-1], more)
	}
	var b strings.Builder
	if f.lines > 0 && f.columns == columns && f.rows == rows {
		fmt.Fprintf(&b, "\r\x1b[%dA", f.lines)
	}
	for _, line := range lines {
		b.WriteString("\x1b[2K" + clip(line, columns) + "\n")
	}
	b.WriteString("\x1b[J") // erase the rest of a longer frame
	*f = frame{len(lines), columns, rows}
	return b.String()
}
