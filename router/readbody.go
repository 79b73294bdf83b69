package router

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// initialBodySize is the initial size of the buffer for a body of unknown length, in bytes.
const initialBodySize = 4 << 10

// readBody reads a request's body into a buffer, which the caller must release.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (*request.Buffer, wire.Error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, wire.Error{
			Status: http.StatusUnsupportedMediaType, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody,
			Message: "Content-Encoding is not supported; send the body uncompressed",
		}
	}
	if r.ContentLength > limit { // rejected before the body is read
		return nil, bodyTooLarge(limit)
	}
	// One byte more than needed, so that the last read returns the end, too.
	size := r.ContentLength
	if size < 0 {
		size = initialBodySize
	}
	b := request.NewBuffer(int(size) + 1)
	if err := b.Fill(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		b.Release()
		return nil, bodyError(err, limit)
	}
	bodyArrived(w)
	return b, wire.Error{}
}

// bodyError returns the client's error for a body that could not be read.
func bodyError(err error, limit int64) wire.Error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return bodyTooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return wire.Error{
			Status: http.StatusRequestTimeout, Type: wire.TypeInvalid, Code: wire.CodeSlowBody,
			Message: "request body did not arrive in time (body_timeout in llmsup.yaml)",
		}
	}
	return invalid("cannot read the request body: " + wire.RootCause(err))
}

func bodyTooLarge(limit int64) wire.Error {
	return wire.Error{
		Status: http.StatusRequestEntityTooLarge, Type: wire.TypeInvalid, Code: wire.CodeTooLarge,
		Message: fmt.Sprintf("request body exceeds %d bytes (max_body in llmsup.yaml)", limit),
	}
}

func invalid(message string) wire.Error {
	return wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody, Message: message}
}
