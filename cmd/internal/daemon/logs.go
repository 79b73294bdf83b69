package daemon

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor"
)

// Logs implements control.Source. The lines of several servers are put together
// in the order of their times.
func (d *Daemon) Logs(ctx context.Context, n int, follow bool, emit func(control.LogLine) error) error {
	var past []control.LogLine
	seen := make([]uint64, len(d.servers))
	for i, server := range d.servers {
		lines, last := server.Tail(n)
		seen[i] = last
		for _, line := range lines {
			past = append(past, logLine(server, line, 0))
			seen[i] = max(seen[i], line.Seq)
		}
	}
	slices.SortStableFunc(past, func(a, b control.LogLine) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	for _, line := range past[max(0, len(past)-n):] {
		if err := emit(line); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}

	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	lines := make(chan control.LogLine)
	for i, server := range d.servers {
		readers.Go(func() { followServer(ctx, server, seen[i], lines) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-lines:
			if err := emit(line); err != nil {
				return err
			}
		}
	}
}

// followServer hands on what a server prints after line seen. Nobody waits for
// it: lines that it is too slow for are counted as lost.
func followServer(ctx context.Context, server *supervisor.Server, seen uint64, lines chan<- control.LogLine) {
	for {
		news, lost, more := server.After(seen)
		for _, line := range news {
			select {
			case <-ctx.Done():
				return
			case lines <- logLine(server, line, lost):
				seen, lost = line.Seq, 0
			}
		}
		if len(news) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-more:
		}
	}
}

func logLine(server *supervisor.Server, line supervisor.Line, lost uint64) control.LogLine {
	return control.LogLine{Server: server.Snapshot().Name, At: line.At, Text: line.Text, Lost: lost}
}
