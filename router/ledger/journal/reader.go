package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// lineReader reads the lines of a file that are whole.
type lineReader struct {
	lines   *bufio.Reader
	damaged int // lines that are damaged; a last one that was cut is not counted
}

func newLineReader(f *os.File) *lineReader {
	return &lineReader{lines: bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 4*maxLine)}
}

// next returns the next line that is whole, or io.EOF.
func (r *lineReader) next() (Line, error) {
	for {
		if err := r.skipZeros(); err != nil {
			return Line{}, err
		}
		raw, err := r.lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || err == nil && len(raw) > maxLine:
			r.damaged++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.lines.ReadSlice('\n')
			}
			continue
		case err != nil: // io.EOF: a last line that was cut belongs to a call whose answer had not ended
			return Line{}, err
		}
		raw = bytes.TrimSuffix(raw, []byte("\n"))
		if l, ok := parseLine(raw); ok {
			return l, nil
		}
		var id int64
		if _, err := fmt.Sscanf(string(raw), `{"ended":%d}`, &id); err == nil { // of an earlier version's pending file
			return Line{Kind: EndLine, ID: id}, nil
		}
		r.damaged++
	}
}

// skipZeros skips blocks that were allocated and never written, as a power failure can
// leave them.
func (r *lineReader) skipZeros() error {
	for {
		c, err := r.lines.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return r.lines.UnreadByte()
		}
	}
}
