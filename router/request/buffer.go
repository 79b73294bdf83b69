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
)

// Buffer holds a request's body for as long as it may be read: the call,
// and each transport that sends it. net/http's RoundTrip can return, and the call
// move on or end, while a body is still being written; its memory is only used
// again when every reader of it was closed.
type Buffer struct {
	Bytes []byte
	users atomic.Int32
}

const (
	// Bodies between these sizes, in bytes, share memory with those before them:
	// without, to clear and to release a large one would cost as much as its copying.
	// Smaller ones are cheap, and larger ones too rare to keep memory for.
	minShared = 16 << 10
	MaxShared = 4 << 20
)

// buffers are those that are not in use, by the bits of their capacity, which is a
// power of two and SharedMost (22 bits) at most: a small body does not hold a large
// one's memory. The collector takes what is unused for two of its cycles.
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

func (b *Buffer) Release() {
	if size := cap(b.Bytes); b.users.Add(-1) == 0 && minShared < size && size <= MaxShared && size&(size-1) == 0 {
		b.Bytes = b.Bytes[:0]
		buffers[bits.Len(uint(size-1))].Put(b)
	}
}

// Fill reads all that there is.
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

// Payload is what is sent as a request's body: its parts one after another.
type Payload struct {
	Parts net.Buffers
	from  *Buffer // that the parts lie in; nil = in memory of their own
}

func (p Payload) Size() int {
	n := 0
	for _, part := range p.Parts {
		n += len(part)
	}
	return n
}

// Open returns a reader of the payload, which has to be closed if it can be.
func (p Payload) Open() io.Reader {
	if p.from == nil && len(p.Parts) == 1 {
		return bytes.NewReader(p.Parts[0]) // a type that net/http knows to be in memory
	}
	if p.from != nil {
		p.from.retain()
	}
	parts := make(net.Buffers, len(p.Parts))
	copy(parts, p.Parts)
	return &payloadReader{parts: parts, left: p.Size(), from: p.from}
}

// AsBody is a reader of a payload as a request's body.
func AsBody(r io.Reader) io.ReadCloser {
	if c, ok := r.(io.ReadCloser); ok {
		return c
	}
	return io.NopCloser(r)
}

// payloadReader reads a payload once. It may be closed while it is read, as
// net/http does when it gives a request up.
type payloadReader struct {
	mu    sync.Mutex
	parts net.Buffers
	left  int
	from  *Buffer
}

// Len is how many bytes are left. retryablehttp takes them for the request's
// Content-Length (its LenReader), without which it would be sent in chunks.
func (r *payloadReader) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// Read fills what it is given as far as it can: net/http writes each piece to
// the network as it comes.
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

// writeTo writes all that is left to a connection, without a copy of it. One that
// hangs ends when the connection is closed, which is what net/http does before it
// closes the reader.
func (r *payloadReader) writeTo(conn net.Conn) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.parts.WriteTo(conn)
	r.left -= int(n)
	return n, err
}

// Close lets go of the payload's memory.
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

// writevConn is a connection that takes a payload whole, in one system call:
// net/http would copy it through a small buffer.
type writevConn struct{ net.Conn }

type dial func(ctx context.Context, network, address string) (net.Conn, error)

// WritevDialer makes the connections of a dialer gathering ones.
func WritevDialer(d dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return writevConn{conn}, nil
	}
}

// ReadFrom implements io.ReaderFrom. net/http limits a body to its
// Content-Length before it hands it on.
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
