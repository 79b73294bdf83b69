package router

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// failure is an attempt that brought no answer.
type failure struct {
	backend    string
	reason     Reason
	detail     string                // for a person, without the backend's name; goes into the log
	said       string                // the backend's own words: they may quote a prompt, so only the caller gets them
	resp       *http.Response        // the backend's own error; nil where it gave none
	body       []byte                // of resp, whole
	retryAfter int                   // seconds, as the backend asked; 0 = it did not
	begun      bool                  // something may have been generated
	spoke      bool                  // its headers came
	fair       bool                  // they did not, in a time in which they should have
	again      bool                  // it would answer if it were asked without a stream
	unwaited   bool                  // it was not waited for, since somebody else could be asked
	strange    bool                  // its streams are not understood
	part       *resume.PartialAnswer // the beginning of an answer that broke off
	usage      wire.Usage            // what the backend said of it
	charge     *accounting.Charge    // what may have been billed for nothing; nil = nothing was
	overBudget *budget.Exceeded      // the backend was not asked, since it takes money; nil = it was
}

// words are for the log and for other callers.
func (f *failure) words() string { return f.backend + " " + f.detail }

// wordsForCaller are for the one whose call it was.
func (f *failure) wordsForCaller() string {
	if f.said == "" {
		return f.words()
	}
	return f.words() + ": " + f.said
}

// callersFault says that the backend found the request itself to be wrong.
func (f *failure) callersFault() bool {
	if f.reason != Status || f.resp == nil {
		return false
	}
	switch f.resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// isAbout says that the backend rejected the request and named this field.
func (f *failure) isAbout(field string) bool {
	return f.callersFault() && bytes.Contains(f.body, []byte(field))
}

// httpStatus is what a client is told when this was the last hope.
func (f *failure) httpStatus() int {
	switch {
	case f.resp != nil && wire.IsErrorStatus(f.resp.StatusCode):
		return f.resp.StatusCode
	case f.reason == Timeout:
		return http.StatusGatewayTimeout
	case f.reason == Saturated:
		return http.StatusTooManyRequests
	case f.reason == Draining, f.reason == Drained, f.reason == Restarting, f.reason == Starting, f.reason == Loading, f.reason == Failed:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// settle ends the reservation of an attempt that failed. An upstream's own
// error status comes before it has generated anything, unless it is the word of a
// gateway that did not wait for whoever is behind it.
func (f *failure) settle(reserved *accounting.Reservation) {
	if reserved == nil {
		return
	}
	late := f.begun && f.resp != nil && f.resp.StatusCode == http.StatusServiceUnavailable // see refused
	if !f.begun || f.resp != nil && wire.IsErrorStatus(f.resp.StatusCode) && !gaveUp(f.resp.StatusCode) && !late {
		reserved.Cancel()
		return
	}
	f.charge = new(reserved.Settle(f.usage, false))
}

// maxErrorBody bounds what is kept of a backend's own error, in bytes.
const maxErrorBody = 4 << 20

// refused reads a backend's own error. since is when the request was sent.
func refused(resp *http.Response, since time.Time) *failure {
	begun := mayHaveBegun(resp.StatusCode) || resp.StatusCode == http.StatusServiceUnavailable && !declined(resp, since)
	f := &failure{reason: Status, resp: resp, begun: begun}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return &failure{
			reason: Lost, detail: fmt.Sprintf("broke its answer %d off: %s", resp.StatusCode, rootCause(err)),
			begun: begun,
		}
	}
	if len(body) < maxErrorBody { // else it is not whole, and can't be passed on
		f.body = body
	} else {
		f.resp = nil
	}
	wait, _ := retryAfter(resp)
	f.retryAfter = int(wait / time.Second)
	f.explain(body)
	return f
}

// refusedWith is refused for an error whose body has been read.
func refusedWith(resp *http.Response, body []byte) *failure {
	f := &failure{reason: Status, resp: resp, begun: true, body: body}
	f.explain(body)
	return f
}

// explain finds out what a backend's own error means.
func (f *failure) explain(body []byte) {
	resp := f.resp
	if resp == nil {
		resp = &http.Response{}
	}
	f.detail = fmt.Sprintf("answered %d", resp.StatusCode)
	object := gjson.ParseBytes(body)
	f.said = wire.Shorten(wire.ErrorMessage(object))
	switch {
	case object.Get("error.type").Str == "exceed_context_size_error":
		f.reason = ContextOverflow
	case resp.StatusCode == http.StatusNotImplemented:
		f.reason = Unsupported
	case resp.StatusCode == http.StatusServiceUnavailable && object.Get("error.message").Str == "Loading model":
		f.reason = Loading // llama-server's words, at any path
	}
}

// gaveUp says whether a status means that somebody's patience was over, and nothing
// of what the one had done that was waited for.
func gaveUp(status int) bool {
	switch status {
	case 408, 499, 460, 504, 524: // nginx's, Amazon's "the client left"; Cloudflare's timeout
		return true
	}
	return false
}

// mayHaveBegun says whether a backend that answered with a status may have
// generated something before: a gateway's timeout says nothing of what lies
// behind it, and nor does an error that nobody knows. What is wrong with the
// request is found before, and so is a want of room.
func mayHaveBegun(status int) bool {
	switch status {
	case 501, 503, 505, 508, 509, 511: // not supported, no room, version, a loop, bandwidth, a login page
		return false
	case 525, 526, 529, 530: // Cloudflare's: no TLS with the origin, no name for it; "overloaded", Anthropic's
		return false
	}
	return status >= 500 || gaveUp(status)
}

// rootCause strips what net/http puts around an error: methods and URLs that
// say nothing to a client. What it quotes is left out as well: it may be anything
// that the peer sent, a key or a part of an answer.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			words, _, _ := strings.Cut(err.Error(), `"`)
			return strings.TrimRight(words, ": ")
		}
		err = inner
	}
}
