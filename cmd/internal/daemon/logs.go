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
	servers := d.running()
	seen := make([]uint64, len(servers))
	for i, s := range servers {
		lines, last := s.server.Tail(n)
		seen[i] = last
		for _, line := range lines {
			past = append(past, logLine(s, line, 0))
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
	for i, s := range servers {
		readers.Go(func() { followServer(ctx, s, seen[i], lines) })
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
func followServer(ctx context.Context, s *served, seen uint64, lines chan<- control.LogLine) {
	for {
		news, lost, more := s.server.After(seen)
		for _, line := range news {
			select {
			case <-ctx.Done():
				return
			case lines <- logLine(s, line, lost):
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

func logLine(s *served, line supervisor.Line, lost uint64) control.LogLine {
	return control.LogLine{Server: s.name, At: line.At, Text: line.Text, Lost: lost}
}
