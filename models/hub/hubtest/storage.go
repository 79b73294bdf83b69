package hubtest

import (
	"bytes"
	"context"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// signature is what the storage demands in a URL.
const signature = "5ec2e7"

// serveStorage sends files, to clients with a signed URL. It rejects a token, as the real
// storage does: it cannot be there together with a signature.
func (h *Hub) serveStorage(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.Trim(r.URL.Path, "/"), "/", 4)
	h.mu.Lock()
	var f *File
	if len(parts) == 4 && parts[0] == "repos" && h.repos[parts[1]+"/"+parts[2]] != nil {
		f = h.repos[parts[1]+"/"+parts[2]].find(parts[3])
	}
	h.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "":
		http.Error(w, "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>", http.StatusBadRequest)
	case r.URL.Query().Get("X-Amz-Signature") != signature:
		http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
	case f == nil:
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
	default:
		w.Header().Set("ETag", `"`+strings.Repeat("0", 32)+`-2"`) // of the storage's own
		h.send(w, r, f)
	}
}

// send sends a file, or the range of it that is asked for.
func (h *Hub) send(w http.ResponseWriter, r *http.Request, f *File) {
	h.mu.Lock()
	wrap := h.wrap
	h.mu.Unlock()
	w.Header().Set("Content-Type", "application/octet-stream")
	w = &countingWriter{ResponseWriter: w, hub: h}
	if wrap != nil {
		w = wrap(w, r)
	}
	if h.NoRanges {
		w.Header().Set("Content-Length", strconv.Itoa(len(f.Content)))
		_, _ = w.Write(f.Content)
		return
	}
	http.ServeContent(w, r, path.Base(f.Path), time.Time{}, bytes.NewReader(f.Content))
}

// countingWriter adds what is written to Served.
type countingWriter struct {
	http.ResponseWriter
	hub *Hub
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.hub.served.Add(int64(n))
	return n, err
}

// Cut has the next answers with content end after some bytes, in the middle of a connection.
func (h *Hub) Cut(answers int, after int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrap = func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
		h.mu.Lock()
		defer h.mu.Unlock()
		if answers <= 0 {
			return w
		}
		answers--
		return &cutWriter{ResponseWriter: w, left: after}
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) < w.left {
		n, err := w.ResponseWriter.Write(p)
		w.left -= int64(n)
		return n, err
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Slow has the answers with content wait after each chunk of some bytes until a value
// arrives on a channel, or until it is closed.
func (h *Hub) Slow(chunk int, next <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrap = func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		return &slowWriter{ResponseWriter: w, ctx: r.Context(), chunk: chunk, next: next}
	}
}

// Hold has all answers with content stop after some bytes in total, until the returned
// function is called. reached is closed when that many were written.
func (h *Hub) Hold(after int64) (reached <-chan struct{}, release func()) {
	stopped, released := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	left := after
	// take returns how many of n bytes may be written now.
	take := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		if n = int(min(int64(n), left)); left > 0 {
			if left -= int64(n); left == 0 {
				close(stopped)
			}
		}
		return n
	}
	if after <= 0 {
		close(stopped)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrap = func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		return &heldWriter{ResponseWriter: w, ctx: r.Context(), take: take, released: released}
	}
	return stopped, sync.OnceFunc(func() { close(released) })
}

type heldWriter struct {
	http.ResponseWriter
	ctx      context.Context //nolint:containedctx // of the request, which ends a wait
	take     func(n int) int
	released <-chan struct{}
}

func (w *heldWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		select {
		case <-w.released:
			n, err := w.ResponseWriter.Write(p)
			return written + n, err
		default:
		}
		n := w.take(min(len(p), 16<<10))
		if n == 0 {
			select {
			case <-w.released:
			case <-w.ctx.Done():
				return written, w.ctx.Err()
			}
			continue
		}
		n, err := w.ResponseWriter.Write(p[:n])
		if written += n; err != nil {
			return written, err
		}
		p = p[n:]
		if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
			return written, err
		}
	}
	return written, nil
}

type slowWriter struct {
	http.ResponseWriter
	ctx   context.Context //nolint:containedctx // of the request, which ends a wait
	chunk int
	next  <-chan struct{}
}

func (w *slowWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		n, err := w.ResponseWriter.Write(p[:min(len(p), w.chunk)])
		if written += n; err != nil {
			return written, err
		}
		p = p[n:]
		if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
			return written, err
		}
		select {
		case <-w.next:
		case <-w.ctx.Done():
			return written, w.ctx.Err()
		}
	}
	return written, nil
}
