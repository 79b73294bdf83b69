package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// watch asks and shows the answer again and again, until ctx ends. On a terminal
// each takes the place of the one before.
func watch[T any](ctx context.Context, every time.Duration, out *os.File, ask func(context.Context) (T, error), show func(io.Writer, T) error) error {
	const clear = "\x1b[H\x1b[2J\x1b[3J"
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		answer, err := ask(ctx)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how one ends it
		}
		if err != nil {
			return err
		}
		if isTerminal(out) {
			fmt.Fprint(out, clear)
		}
		if err := show(out, answer); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
