package request

import (
	"bufio"
	"bytes"
	"io"
)

// part is a part of a form: a field's headers, an empty line and its value.
type part struct {
	begin  []byte // its first bytes, up to maxPartBegin; valid until the next part
	at     int    // its position in the form
	length int    // in bytes
}

// maxPartBegin is how much of a part is read, in bytes: more than the headers of a field and
// any value that the router needs. The rest, such as a file, is skipped.
const maxPartBegin = 64 << 10

// partReader splits a form into its parts. It holds no more than twice maxPartBegin of it.
type partReader struct {
	r        *bufio.Reader
	at       int    // the position in the form
	mark     []byte // before the first part
	boundary []byte // before each other part, and the end
	begin    []byte
}

func newPartReader(r io.Reader, mark string) *partReader {
	return &partReader{r: bufio.NewReaderSize(r, maxPartBegin), mark: []byte(mark), boundary: []byte("\r\n" + mark)}
}

// next returns the next part; last is true, and there is none, at the form's end.
func (f *partReader) next() (p part, last bool, err error) {
	if f.at == 0 && !f.accept(f.mark) {
		return p, false, ErrForm
	}
	if !f.accept([]byte("\r\n")) {
		rest, err := io.ReadAll(io.LimitReader(f.r, 5))
		if err != nil || string(rest) != "--" && string(rest) != "--\r\n" {
			return p, false, ErrForm
		}
		return p, true, nil
	}
	p.at, f.begin = f.at, f.begin[:0]
	for {
		window, err := f.r.Peek(maxPartBegin)
		if i := bytes.Index(window, f.boundary); i >= 0 {
			f.take(window[:i])
			p.begin, p.length = f.begin, f.at-p.at
			return p, false, f.skip(len(f.boundary))
		}
		if err != nil { // the form ends in the middle of a part
			return p, false, ErrForm
		}
		f.take(window[:len(window)-len(f.boundary)+1]) // the window may end in the middle of the mark
	}
}

// accept skips a text if it comes next.
func (f *partReader) accept(text []byte) bool {
	got, err := f.r.Peek(len(text))
	return err == nil && bytes.Equal(got, text) && f.skip(len(text)) == nil
}

// take reads a piece of a part.
func (f *partReader) take(piece []byte) {
	f.begin = append(f.begin, piece[:min(len(piece), maxPartBegin-len(f.begin))]...)
	_ = f.skip(len(piece)) // it has been peeked at
}

func (f *partReader) skip(n int) error {
	n, err := f.r.Discard(n)
	f.at += n
	return err
}
