package request

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/llmsup/llmsup/router/spool"
	"github.com/llmsup/llmsup/router/wire"
)

// MaxInMemory is the size up to which a body that is no form is accepted, in bytes, whatever the
// limit for all bodies: it is held in memory.
const MaxInMemory = 256 << 20

// Limits are the limits of requests' bodies.
type Limits struct {
	Bytes int64
	Dir   string // the folder for forms that are too large for memory; "" = that of temporary files
}

// Read reads a request's body, which may be a form, into a buffer, which the caller must
// release. Its error is the client's; Status 0 = there is none.
func Read(w http.ResponseWriter, r *http.Request, form bool, l Limits) (*Buffer, wire.Error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, wire.Error{
			Status: http.StatusUnsupportedMediaType, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody,
			Message: "Content-Encoding is not supported; send the body uncompressed",
		}
	}
	limit := l.Bytes
	if form = form && IsForm(r.Header); !form {
		limit = min(limit, MaxInMemory)
	}
	if r.ContentLength > limit { // rejected before the body is read
		return nil, tooLarge(limit)
	}
	b, err := readInto(http.MaxBytesReader(w, r.Body, limit), r.ContentLength, form, l.Dir)
	if err != nil {
		return nil, readError(err, limit)
	}
	bodyArrived(w)
	return b, wire.Error{}
}

// readInto reads a body of a length, below 0 = unknown, into a buffer.
func readInto(body io.Reader, length int64, form bool, dir string) (*Buffer, error) {
	if form {
		if dir == "" {
			dir = os.TempDir()
		}
		return ReadForm(body, length, dir)
	}
	// One byte more than needed, so that the last read returns the end, too.
	size := initialSize + 1
	if length >= 0 {
		size = int(length) + 1
	}
	b := NewBuffer(size)
	if err := b.Fill(body); err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

// readError returns the client's error for a body that could not be read.
func readError(err error, limit int64) wire.Error {
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return tooLarge(limit)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return wire.Error{
			Status: http.StatusRequestTimeout, Type: wire.TypeInvalid, Code: wire.CodeSlowBody,
			Message: "request body did not arrive in time (body_timeout in llmsup.yaml)",
		}
	case errors.Is(err, spool.ErrNoSpace), errors.Is(err, spool.ErrFile):
		return wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: wire.CodeNoStorage,
			Message: "cannot keep the form in llmsup's state_dir: " + storageCause(err), RetryAfter: storageRetry,
		}
	}
	return Invalid("cannot read the request body: " + wire.RootCause(err))
}

// storageCause returns why a form could not be kept, without a path.
func storageCause(err error) string {
	if code, ok := errors.AsType[syscall.Errno](err); ok {
		return code.Error()
	}
	return spool.ErrNoSpace.Error()
}

// storageRetry is the Retry-After if the disk has no room for a body, in seconds.
const storageRetry = 30

func tooLarge(limit int64) wire.Error {
	e := wire.Error{
		Status: http.StatusRequestEntityTooLarge, Type: wire.TypeInvalid, Code: wire.CodeTooLarge,
		Message: fmt.Sprintf("request body exceeds %d bytes (max_body in llmsup.yaml)", limit),
	}
	if limit == MaxInMemory {
		e.Message = fmt.Sprintf("request body exceeds %d bytes, the limit of llmsup for bodies that are no form", limit)
	}
	return e
}

// Invalid returns the client's error for a body that is not valid.
func Invalid(message string) wire.Error {
	return wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody, Message: message}
}

// LimitTime sets a deadline for the arrival of a request's body. It applies to rejected
// requests, too: net/http reads the rest of the body before it answers. Read clears
// the deadline, so that it never ends an answer.
func LimitTime(w http.ResponseWriter, r *http.Request, limit time.Duration) {
	if limit > 0 && r.ContentLength != 0 {
		// Only writers of tests have no deadlines.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit))
	}
}

// bodyArrived clears the deadline of LimitTime.
func bodyArrived(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as in LimitTime
}
