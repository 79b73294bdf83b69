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

// watch asks and shows the answer again and again, until ctx ends. On a terminal
// each takes the place of the one before.
func watch[T any](ctx context.Context, every time.Duration, out *os.File, ask func(context.Context) (T, error), show func(io.Writer, T) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	live := isTerminal(out) && os.Getenv("TERM") != "dumb"
	var shown frame
	for {
		answer, err := ask(ctx)
		switch {
		case ctx.Err() != nil: // Ctrl-C is how one ends it
			err = nil
		case err != nil:
		case live:
			var text bytes.Buffer
			if err = show(&text, answer); err == nil {
				columns, rows := windowSize(out)
				_, err = io.WriteString(out, shown.next(text.String(), columns, rows))
			}
		default:
			err = show(out, answer)
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

// frame is a page on a terminal that the next one takes the place of. Only its
// own lines are written over: what stands above, and what has scrolled away,
// stays.
type frame struct{ lines, columns, rows int }

// next returns what draws a text where the last one stands, as far as the window
// has room. After a change of the window's size the last one stays where it is:
// terminals differ in how they break its lines anew.
func (f *frame) next(text string, columns, rows int) string {
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
	b.WriteString("\x1b[J") // what is left of a longer one
	*f = frame{len(lines), columns, rows}
	return b.String()
}
