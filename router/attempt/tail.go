package attempt

import (
	"bytes"
	"errors"
	"io"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// tailSize is how much of the end of a large answer is sent only after the call is
// recorded, in bytes. In most answers the usage is in that part.
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

// UsageInParts finds the usage in the beginning and the tail of a JSON text.
func UsageInParts(beginning, end []byte) gjson.Result {
	if at := bytes.LastIndex(end, []byte(`"usage":`)); at >= 0 {
		return gjson.GetBytes(append([]byte(`{`), end[at:]...), "usage")
	}
	if !wire.IsObject(beginning) { // speech
		return gjson.Result{}
	}
	if usage := gjson.GetBytes(beginning, "usage"); gjson.Valid(usage.Raw) { // not one that is cut off
		return usage
	}
	return gjson.Result{}
}
