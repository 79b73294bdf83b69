package hub

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	defaultConnections = 8       // to one file
	minPieceSize       = 4 << 20 // bytes
	maxPieces          = 32      // of a file, so that a large one needs few requests
	readSize           = 256 << 10
	// maxFailures is how often in a row a piece may fail without a byte, each time after the
	// repeats of a request: about two minutes if connections are refused.
	maxFailures    = 6
	maxFailureWait = 30 * time.Second
)

// fetch downloads what is missing of a file, over several connections.
func (c *Client) fetch(ctx context.Context, f File, p *partial) error {
	missing := make(chan int, len(p.done))
	for i := range p.done {
		if p.done[i].Load() < p.lengthOf(i) {
			missing <- i
		}
	}
	close(missing)
	group, ctx := errgroup.WithContext(ctx)
	for range min(defaultConnections, len(missing)) {
		group.Go(func() error {
			for piece := range missing {
				if err := c.fetchPiece(ctx, f, p, piece); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// lengthOf returns the bytes of a whole piece.
func (p *partial) lengthOf(piece int) int64 { return min(p.piece, p.size-int64(piece)*p.piece) }

// fetchPiece downloads what is missing of a piece, in several attempts where the connection breaks.
func (c *Client) fetchPiece(ctx context.Context, f File, p *partial, piece int) error {
	for failures := 0; ; {
		before := p.done[piece].Load()
		err := c.fetchOnce(ctx, f, p, piece)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !mayRepeat(err):
			return err
		case p.done[piece].Load() > before:
			failures = 0
		}
		if failures++; failures > maxFailures {
			return err
		}
		if err := c.pause(ctx, failures); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt after so many failures.
func (c *Client) pause(ctx context.Context, failures int) error {
	timer := time.NewTimer(min(cmp.Or(c.firstWait, minRetryWait)<<failures, maxFailureWait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watchIdle cancels a request when no byte has arrived for a while. The returned function
// extends the time; 0 ends the watch.
func (c *Client) watchIdle(cancel context.CancelCauseFunc) (extend func(time.Duration)) {
	timer := time.AfterFunc(c.idleTimeout(), func() { cancel(errIdle) })
	return func(d time.Duration) {
		if d == 0 {
			timer.Stop()
			return
		}
		timer.Reset(d)
	}
}

// watchBody is the body of an answer whose request is cancelled when no byte has arrived for a
// while. stop ends the watch.
func (c *Client) watchBody(resp *http.Response, cancel context.CancelCauseFunc) (body io.Reader, stop func()) {
	extend := c.watchIdle(cancel)
	return readerFunc(func(b []byte) (int, error) {
		n, err := resp.Body.Read(b)
		extend(c.idleTimeout())
		return n, err
	}), func() { extend(0) }
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func (c *Client) idleTimeout() time.Duration { return cmp.Or(c.idle, idleTimeout) }

var errIdle = fmt.Errorf("the connection had no data for %s", idleTimeout)

// fetchOnce requests what is missing of a piece and writes what arrives.
func (c *Client) fetchOnce(ctx context.Context, f File, p *partial, piece int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := int64(piece)*p.piece + p.done[piece].Load()
	end := int64(piece)*p.piece + p.lengthOf(piece)
	resp, err := c.getRange(ctx, f, start, end)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := checkRange(f, resp, start); err != nil {
		return err
	}
	extend := c.watchIdle(cancel)
	defer extend(0)
	buffer := make([]byte, readSize)
	for at := start; at < end; {
		n, err := io.ReadAtLeast(resp.Body, buffer[:min(readSize, end-at)], min(len(magic), int(end-at)))
		extend(c.idleTimeout())
		if n > 0 {
			if at == 0 && !bytes.HasPrefix(buffer[:n], []byte(magic)) && n >= len(magic) {
				return notGGUF(f)
			}
			if err := p.write(piece, buffer[:n]); err != nil {
				return writeError(p.path, err)
			}
			at += int64(n)
		}
		if err != nil && at < end {
			return c.connectError(ctx, f.URL, err)
		}
	}
	return nil
}

// checkRange checks that an answer has the range that was asked for, of the same file.
func checkRange(f File, resp *http.Response, start int64) error {
	if f.SHA256 == "" && f.validator != "" && validator(resp.Header) != f.validator {
		return permanentErrorf("%s changed at the server during the download: start again", withoutQuery(f.URL))
	}
	if resp.StatusCode != http.StatusPartialContent {
		return nil // the whole file, from its start
	}
	got := resp.Header.Get("Content-Range")
	want, total := fmt.Sprintf("bytes %d-", start), fmt.Sprintf("/%d", f.Size)
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, total) && !strings.HasSuffix(got, "/*") {
		return permanentErrorf("%s sent the range %q instead of %s...%s of %s", hostOf(resp.Request.URL.String()), got, want, total, f.Path)
	}
	return nil
}

// validator returns what a server has to tell versions of a file apart; "" = nothing.
func validator(h http.Header) string {
	if etag := h.Get("ETag"); etag != "" && !strings.HasPrefix(etag, "W/") {
		return etag
	}
	return h.Get("Last-Modified")
}

func writeError(path string, err error) error {
	if code, ok := errors.AsType[syscall.Errno](err); ok && (code == syscall.ENOSPC || code == syscall.EDQUOT) {
		return permanentErrorf("the disk of %s is full (%w): free space, or choose another folder", filepath.Dir(path), code)
	}
	return permanentErrorf("write %s: %w", path, err)
}

// fetchWhole downloads a file over one connection, from a server that sends no parts, or does
// not say how large the file is. It starts anew where the connection breaks.
func (c *Client) fetchWhole(ctx context.Context, f File, p *partial) error {
	for failures := 1; ; failures++ {
		err := c.fetchWholeOnce(ctx, f, p)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !mayRepeat(err) || failures > maxFailures:
			return err
		}
		if err := c.pause(ctx, failures); err != nil {
			return err
		}
	}
}

func (c *Client) fetchWholeOnce(ctx context.Context, f File, p *partial) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := p.file.Truncate(0); err != nil {
		return writeError(p.path, err)
	}
	p.sum.Add(-p.there())
	p.done = make([]atomic.Int64, 1)
	resp, err := c.do(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.statusError(f.ref, resp)
	}
	extend := c.watchIdle(cancel)
	defer extend(0)
	buffer := make([]byte, readSize)
	for at := int64(0); ; {
		n, err := io.ReadAtLeast(resp.Body, buffer, len(magic))
		extend(c.idleTimeout())
		if n > 0 {
			if at == 0 && !bytes.HasPrefix(buffer[:n], []byte(magic)) {
				return notGGUF(f)
			}
			if _, err := p.file.WriteAt(buffer[:n], at); err != nil {
				return writeError(p.path, err)
			}
			at += int64(n)
			p.add(0, int64(n))
		}
		atEnd := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && resp.ContentLength < 0 && n < len(magic)
		switch {
		case atEnd && at < int64(len(magic)):
			return notGGUF(f)
		case atEnd && (f.Size < 0 || at == f.Size):
			return nil
		case err != nil:
			return c.connectError(ctx, f.URL, err)
		}
	}
}
