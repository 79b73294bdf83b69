package attempt

import (
	"bytes"
	"errors"
	"io"

	"github.com/tidwall/gjson"
)

// tailSize is how much of the end of a large answer is sent only after the call is
// recorded, in bytes. The usage is in that part.
const tailSize = 64 << 10

// CopyExceptTail copies all of a large answer but its tail, and returns that.
func CopyExceptTail(w io.Writer, r io.Reader) (end []byte, err error) {
	piece := make([]byte, 4*tailSize)
	for {
		n, err := r.Read(piece[len(end):])
		end = piece[:len(end)+n]
		if more := len(end) - tailSize; more > 0 {
			if _, err := w.Write(end[:more]); err != nil {
				return nil, err
			}
			end = piece[:copy(piece, end[more:])]
		}
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// UsageInTail finds the usage in the tail of a JSON text.
func UsageInTail(end []byte) gjson.Result {
	at := bytes.LastIndex(end, []byte(`"usage":`))
	if at < 0 {
		return gjson.Result{}
	}
	return gjson.GetBytes(append([]byte(`{`), end[at:]...), "usage")
}
