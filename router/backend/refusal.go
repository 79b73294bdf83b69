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

// maxErrorBody is the longest body of a backend's own error that is kept, in bytes.
const maxErrorBody = 4 << 20

// ReadError reads a backend's own error.
func ReadError(resp *http.Response, a *Attempt) *Failure {
	phase := Rejected
	if mayHaveGenerated(resp.StatusCode) || resp.StatusCode == http.StatusServiceUnavailable && !declinedRequest(resp, a.sentAt) {
		phase = Generating
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return &Failure{
			Reason: Lost, Phase: phase, Detail: fmt.Sprintf("lost the connection in the middle of its %d answer: %s", resp.StatusCode, wire.RootCause(err)),
		}
	}
	f := NewError(&Response{Status: resp.StatusCode, Header: resp.Header, Body: body})
	f.Phase = phase
	if len(body) >= maxErrorBody { // it may be truncated, and must not be passed on
		f.Response = nil
	}
	wait, _ := retryAfter(resp)
	f.RetryAfter = int(wait / time.Second)
	return f
}

// NewError returns the failure of an attempt that a backend answered with an error.
func NewError(resp *Response) *Failure {
	object := gjson.ParseBytes(resp.Body)
	f := &Failure{
		Reason: Status, Phase: Generating, Response: resp,
		Detail: fmt.Sprintf("answered %d", resp.Status), Message: wire.Shorten(wire.ErrorMessage(object)),
	}
	switch {
	case object.Get("error.type").Str == "exceed_context_size_error":
		f.Reason, f.OverContext = ContextOverflow, true
	case resp.Status == http.StatusNotImplemented:
		f.Reason = Unsupported
	case resp.Status == http.StatusServiceUnavailable && object.Get("error.message").Str == "Loading model":
		f.Reason = Loading // llama-server answers so at every path
	}
	return f
}

// QuotaUsedUp reports whether a 429 is OpenAI's for an account without credit, and not one
// for too many calls at once: a retry does not help.
func (r *Response) QuotaUsedUp() bool {
	return r.Status == http.StatusTooManyRequests && gjson.GetBytes(r.Body, "error.code").Str == wire.TypeQuota
}

// RejectedField reports whether the backend rejected the request and named this field.
func (f *Failure) RejectedField(field string) bool {
	return f.InvalidRequest() && bytes.Contains(f.Response.Body, []byte(field))
}

// isTimeoutStatus reports whether a status means that a gateway or its client stopped
// waiting. The backend behind the gateway may have generated an answer.
func isTimeoutStatus(status int) bool {
	switch status {
	case 408, 499, 460, 504, 524: // 499, 460: nginx's and Amazon's "client closed the connection"; 524: Cloudflare's timeout
		return true
	}
	return false
}

// mayHaveGenerated reports whether a backend that answered with a status may have
// generated something before. After a gateway's timeout or an unknown server error it
// may. An invalid request and a lack of capacity are detected before anything is
// generated.
func mayHaveGenerated(status int) bool {
	switch status {
	case 501, 503, 505, 508, 509, 511: // not implemented, unavailable, HTTP version, loop, bandwidth, network login
		return false
	case 525, 526, 529, 530: // Cloudflare: no TLS with the origin (525, 526), origin unknown (530); Anthropic: overloaded (529)
		return false
	}
	return status >= 500 || isTimeoutStatus(status)
}
