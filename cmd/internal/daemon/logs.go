package daemon

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/output"
)

// Logs implements control.Daemon. It merges the lines of several servers by their time.
func (d *Daemon) Logs(ctx context.Context, q control.LogsRequest, begin func() error, emit func(control.LogLine) error) error {
	servers, err := d.find(q.Servers)
	if err != nil {
		return err
	}
	if err := begin(); err != nil {
		return err
	}
	var past []control.LogLine
	seen := map[*supervisor.Server]uint64{}
	for _, s := range servers {
		lines, last := s.server.Output().Last(q.Lines)
		seen[s.server] = last
		for _, line := range lines {
			past = append(past, logLine(s, line, 0))
			seen[s.server] = max(last, line.Seq)
		}
	}
	slices.SortStableFunc(past, func(a, b control.LogLine) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	for _, line := range past[max(0, len(past)-q.Lines):] {
		if err := emit(line); err != nil {
			return err
		}
	}
	if !q.Follow {
		return nil
	}

	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	lines := make(chan control.LogLine)
	followed := map[*supervisor.Server]bool{}
	for {
		now := d.serverList.Load()
		for _, s := range now.servers { // including those that a reload has added
			if asked := len(q.Servers) == 0 || slices.Contains(q.Servers, s.name); asked && !followed[s.server] {
				followed[s.server] = true
				readers.Go(func() { followServer(ctx, s, seen[s.server], lines) })
			}
		}
		if err := forwardLines(ctx, lines, now.changed, emit); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// forwardLines emits lines until the servers change or ctx ends.
func forwardLines(ctx context.Context, lines <-chan control.LogLine, changed <-chan struct{}, emit func(control.LogLine) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			return nil
		case line := <-lines:
			if err := emit(line); err != nil {
				return err
			}
		}
	}
}

// followServer sends the lines that a server prints after line seen. The server does not
// wait for it: lines that are dropped because it is too slow are counted as lost.
func followServer(ctx context.Context, s *managedServer, seen uint64, lines chan<- control.LogLine) {
	for {
		news, lost, more := s.server.Output().After(seen)
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
		case <-s.ended:
			return
		case <-more:
		}
	}
}

func logLine(s *managedServer, line output.Line, lost uint64) control.LogLine {
	_, level, _ := engineOf(s.launch.entry).LogLine(line.Text, false)
	return control.LogLine{Server: s.name, At: line.At, Level: level.String(), Text: line.Text, Lost: lost}
}

// OwnLog implements page.Logs.
func (d *Daemon) OwnLog(ctx context.Context, n int, emit func(control.LogLine) error) error {
	lines, seen := d.opts.LogLines.Last(n)
	for lost := uint64(0); ; {
		for _, line := range lines {
			if err := emit(control.LogLine{At: line.At, Text: line.Text, Lost: lost}); err != nil {
				return err
			}
			seen, lost = line.Seq, 0
		}
		var more <-chan struct{}
		if lines, lost, more = d.opts.LogLines.After(seen); len(lines) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}
