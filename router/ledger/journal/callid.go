package journal

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// CallID is the id of a call, as people see it: the time when it came, and the number of its
// row, which together are the primary key of the database. It contains a colon, which no
// X-Request-Id of llmsup does.
type CallID struct {
	Unix   int64 // milliseconds since 1970
	Number int64 // lower half of the row's id
}

// NewCallID returns the id of a call.
func NewCallID(at time.Time, row int64) CallID {
	return CallID{at.UnixMilli(), row & NumberMask}
}

// NumberMask is the part of a row's id that counts the calls of one run.
const NumberMask = 1<<32 - 1

// base of the numbers in an id: digits and lower-case letters.
const base = 36

func (id CallID) String() string {
	return strconv.FormatInt(id.Unix, base) + ":" + strconv.FormatInt(id.Number, base)
}

var errCallID = errors.New("it is not the id of a call (example: mhx3k2p9:4f)")

// ParseCallID reads an id as String writes it.
func ParseCallID(text string) (id CallID, err error) {
	at, number, ok := strings.Cut(text, ":")
	if ok {
		if id.Unix, err = strconv.ParseInt(at, base, 64); err == nil {
			id.Number, err = strconv.ParseInt(number, base, 64)
		}
	}
	if !ok || err != nil || id.String() != text || id.Unix < 0 || id.Number < 0 || id.Number > NumberMask {
		return CallID{}, errCallID
	}
	return id, nil
}
