package request

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"

	"github.com/llmsup/llmsup/router/spool"
)

// Buffer is the memory of a request's body, or its file if it is too large for memory, counted
// by users: the call, and each transport that sends the body. RoundTrip of net/http can return,
// and the call move on or end, while the body is still being written, so the memory is reused
// only when every reader was closed.
type Buffer struct {
	Bytes []byte
	file  *spool.File // has the body; nil = Bytes has it
	users atomic.Int32
}

const (
	// Bodies between these sizes, in bytes, reuse memory: clearing and releasing it for
	// each large body would cost as much as copying the body. Smaller bodies are cheap,
	// and larger ones too rare to keep memory for.
	minShared = 16 << 10
	MaxShared = 4 << 20
)

// buffers are the unused ones, by the bits of their capacity, which is a power of two and
// at most MaxShared (22 bits), so that a small body does not occupy a large one's
// memory. The garbage collector frees those that are unused for two cycles.
var buffers [23]sync.Pool

// NewBuffer returns an empty buffer with room for size bytes, and one user.
func NewBuffer(size int) *Buffer {
	b := &Buffer{}
	if minShared < size && size <= MaxShared {
		class := bits.Len(uint(size - 1))
		if shared, ok := buffers[class].Get().(*Buffer); ok {
			b = shared
		} else {
			b.Bytes = make([]byte, 0, 1<<class)
		}
	} else {
		b.Bytes = make([]byte, 0, size)
	}
	b.users.Store(1)
	return b
}

func (b *Buffer) retain() { b.users.Add(1) }

// Release ends the use of the buffer by one user.
func (b *Buffer) Release() {
	if b.users.Add(-1) != 0 {
		return
	}
	if b.file != nil {
		b.file.Close()
	}
	if size := cap(b.Bytes); minShared < size && size <= MaxShared && size&(size-1) == 0 {
		b.Bytes = b.Bytes[:0]
		buffers[bits.Len(uint(size-1))].Put(b)
	}
}

// Fill reads r to its end.
func (b *Buffer) Fill(r io.Reader) error {
	for {
		if len(b.Bytes) == cap(b.Bytes) {
			b.Bytes = append(b.Bytes, 0)[:len(b.Bytes)]
		}
		n, err := r.Read(b.Bytes[len(b.Bytes):cap(b.Bytes)])
		b.Bytes = b.Bytes[:len(b.Bytes)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Payload is what is sent as a request's body: its parts in order.
type Payload struct {
	Parts net.Buffers
	from  *Buffer // the memory of the parts; nil = it is not shared
	cut   Span    // of a body in a file: the parts take the place of these bytes, and the rest stays
}

// inFile reports whether most of the payload is in a file.
func (p Payload) inFile() bool { return p.from != nil && p.from.file != nil }

// Size returns the length in bytes.
func (p Payload) Size() int {
	n := 0
	if p.inFile() {
		n = int(p.from.file.Size()) - (p.cut.To - p.cut.From)
	}
	for _, part := range p.Parts {
		n += len(part)
	}
	return n
}

// Open returns a reader of the payload. The caller closes it if it is an io.Closer.
func (p Payload) Open() io.Reader {
	if p.from == nil && len(p.Parts) == 1 {
		return bytes.NewReader(p.Parts[0]) // a type that net/http knows to be in memory
	}
	if p.from != nil {
		p.from.retain()
	}
	parts := make(net.Buffers, len(p.Parts))
	copy(parts, p.Parts)
	if p.inFile() {
		return newFileReader(p, parts)
	}
	return &payloadReader{parts: parts, left: p.Size(), from: p.from}
}

// AsBody returns a reader of a payload as the body of an http.Request.
func AsBody(r io.Reader) io.ReadCloser {
	if c, ok := r.(io.ReadCloser); ok {
		return c
	}
	return io.NopCloser(r)
}

// payloadReader reads a payload once. It may be closed during a Read: net/http does so
// when it aborts a request.
type payloadReader struct {
	mu    sync.Mutex
	parts net.Buffers
	left  int
	from  *Buffer
}

// Len returns how many bytes are left. go-retryablehttp sets the Content-Length from it
// (LenReader); without a length the request would be sent in chunks.
func (r *payloadReader) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// Read fills as much of b as it can: net/http writes the result of each Read to the
// network.
func (r *payloadReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(b) && len(r.parts) > 0 {
		m := copy(b[n:], r.parts[0])
		n += m
		if r.parts[0] = r.parts[0][m:]; len(r.parts[0]) == 0 {
			r.parts = r.parts[1:]
		}
	}
	r.left -= n
	return n, nil
}

// writeTo writes the rest to a connection without copying it. A write that hangs ends
// when net/http closes the connection, which it does before it closes the reader.
func (r *payloadReader) writeTo(conn net.Conn) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.parts.WriteTo(conn)
	r.left -= int(n)
	return n, err
}

// Close ends the use of the payload's memory.
func (r *payloadReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts, r.left = nil, 0
	if r.from != nil {
		r.from.Release()
		r.from = nil
	}
	return nil
}

// writevConn sends a payload in one system call (writev). net/http would copy it through a
// small buffer.
type writevConn struct{ net.Conn }

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// WritevDialer returns a dialer of connections that send a payload in one system call.
func WritevDialer(d dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return writevConn{conn}, nil
	}
}

// ReadFrom implements io.ReaderFrom. net/http passes a body as an io.LimitedReader of its
// Content-Length.
func (c writevConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if p, ok := limited.R.(*payloadReader); ok && limited.N >= int64(p.Len()) {
			n, err := p.writeTo(c.Conn)
			limited.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}
