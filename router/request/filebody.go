package request

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/llmsup/llmsup/router/spool"
)

// MaxFormInMemory is the size up to which a form is held in memory, in bytes: the largest
// buffer that is reused. A larger form is in a file.
const MaxFormInMemory = MaxShared - 2

// initialSize is that of the buffer of a form that may be in a file at the end, in bytes.
const initialSize = 4 << 10

// ReadForm reads a form into a buffer, which the caller must release. length is its
// Content-Length; below 0 = unknown. dir is the folder of files.
func ReadForm(r io.Reader, length int64, dir string) (*Buffer, error) {
	size := initialSize
	if 0 <= length && length <= MaxFormInMemory {
		size = int(length) + 1 // one more than needed, so that the last read returns the end, too
	}
	b := NewBuffer(size)
	if err := b.readForm(r, length, dir); err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

func (b *Buffer) readForm(r io.Reader, length int64, dir string) error {
	if length <= MaxFormInMemory {
		if err := b.Fill(io.LimitReader(r, MaxFormInMemory+1)); err != nil || len(b.Bytes) <= MaxFormInMemory {
			return err
		}
	}
	var err error
	if b.file, err = spool.Create(dir, length); err != nil {
		return err
	}
	if _, err = b.file.Write(b.Bytes); err != nil {
		return err
	}
	b.Bytes = nil
	_, err = b.file.ReadFrom(r)
	return err
}

// ParseForm parses the form in the buffer.
func (b *Buffer) ParseForm(h http.Header) (Body, error) {
	if b.file == nil {
		return ParseForm(b.Bytes, h)
	}
	return parseForm(b.file.Section(0, b.file.Size()), h)
}

// Size returns the length of the body in bytes.
func (b Body) Size() int64 {
	if b.isInFile() {
		return b.Buffer.file.Size()
	}
	return int64(len(b.Raw))
}

// isInFile reports whether the body is in a file; Raw is nil then.
func (b Body) isInFile() bool { return b.Buffer != nil && b.Buffer.file != nil }

// fileReader reads a payload that is in a file. It may be closed during a Read, as a
// payloadReader.
type fileReader struct {
	mu   sync.Mutex
	rest io.Reader
	left int
	from *Buffer // nil = closed
}

func newFileReader(p Payload, parts net.Buffers) *fileReader {
	file := p.from.file
	return &fileReader{
		rest: io.MultiReader(file.Section(0, int64(p.cut.From)), &parts, file.Section(int64(p.cut.To), file.Size())),
		left: p.Size(), from: p.from,
	}
}

// Len is that of a payloadReader.
func (r *fileReader) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from == nil {
		return 0, io.EOF
	}
	n, err := r.rest.Read(p)
	r.left -= n
	if err != nil && err != io.EOF { //nolint:errorlint // a reader returns io.EOF itself
		err = fmt.Errorf("read the body from its file: %w", err)
	}
	return n, err
}

// Close ends the use of the file.
func (r *fileReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from != nil {
		r.from.Release()
		r.from = nil
	}
	return nil
}
