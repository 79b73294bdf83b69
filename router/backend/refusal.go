package backend

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// maxErrorBody bounds what is kept of a backend's own error, in bytes.
const maxErrorBody = 4 << 20

// ReadError reads a backend's own error.
func ReadError(resp *http.Response, a *Attempt) *Failure {
	phase := Rejected
	if mayHaveGenerated(resp.StatusCode) || resp.StatusCode == http.StatusServiceUnavailable && !declined(resp, a.sentAt) {
		phase = Generating
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return &Failure{
			Reason: Lost, Phase: phase, Detail: fmt.Sprintf("broke its answer %d off: %s", resp.StatusCode, wire.RootCause(err)),
		}
	}
	f := NewError(&Response{Status: resp.StatusCode, Header: resp.Header, Body: body})
	f.Phase = phase
	if len(body) >= maxErrorBody { // it is not whole, and can't be passed on
		f.Response = nil
	}
	wait, _ := retryAfter(resp)
	f.RetryAfter = int(wait / time.Second)
	return f
}

// NewError returns the failure of a backend's own error.
func NewError(resp *Response) *Failure {
	object := gjson.ParseBytes(resp.Body)
	f := &Failure{
		Reason: Status, Phase: Generating, Response: resp,
		Detail: fmt.Sprintf("answered %d", resp.Status), Message: wire.Shorten(wire.ErrorMessage(object)),
	}
	switch {
	case object.Get("error.type").Str == "exceed_context_size_error":
		f.Reason = ContextOverflow
	case resp.Status == http.StatusNotImplemented:
		f.Reason = Unsupported
	case resp.Status == http.StatusServiceUnavailable && object.Get("error.message").Str == "Loading model":
		f.Reason = Loading // llama-server says so at any path
	}
	return f
}

// RejectedField says that the backend rejected the request and named this field.
func (f *Failure) RejectedField(field string) bool {
	return f.InvalidRequest() && bytes.Contains(f.Response.Body, []byte(field))
}

// isTimeoutStatus says whether a status means that someone stopped waiting. It says
// nothing about what the backend behind has done.
func isTimeoutStatus(status int) bool {
	switch status {
	case 408, 499, 460, 504, 524: // nginx's, Amazon's "the client closed the connection"; Cloudflare's timeout
		return true
	}
	return false
}

// mayHaveGenerated says whether a backend that answered with a status may have
// generated something before: a gateway's timeout says nothing of what lies
// behind it, and nor does an error that nobody knows. What is wrong with the
// request is found before, and so is a want of room.
func mayHaveGenerated(status int) bool {
	switch status {
	case 501, 503, 505, 508, 509, 511: // not supported, no room, version, a loop, bandwidth, a login page
		return false
	case 525, 526, 529, 530: // Cloudflare's: no TLS with the origin, no name for it; "overloaded", Anthropic's
		return false
	}
	return status >= 500 || isTimeoutStatus(status)
}
