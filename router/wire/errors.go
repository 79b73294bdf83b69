package wire

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Error is an error response of llmsup's own.
type Error struct {
	Status     int    // HTTP status
	Type       string // OpenAI's error type
	Code       string // machine-readable, for a program to branch on
	Message    string // what happened and what to do
	Param      string // the field of the body that is at fault; "" = none
	RetryAfter int    // seconds; 0 = no such header
	Definite   bool   // a retry cannot help, though the status may mean that
}

// Error types of OpenAI's API.
const (
	TypeInvalid   = "invalid_request_error"
	TypeServer    = "server_error"
	TypeRateLimit = "rate_limit_error"
	TypeQuota     = "insufficient_quota"
)

// Codes of errors that are not a Reason.
const (
	CodeModelNotFound = "model_not_found"
	CodeInvalidBody   = "invalid_body"
	CodeTooLarge      = "request_too_large"
	CodeNoKey         = "missing_api_key"
	CodeNotFound      = "not_found"
	CodeBadKey        = "invalid_api_key"
	CodeAwaitsKeys    = "no_keys_yet"
	CodeNotAllowed    = "route_not_allowed"
	CodeNotOperator   = "operator_required"
	CodeLoop          = "loop_detected"
	CodeOrigin        = "origin_not_allowed"
	CodeHost          = "host_not_allowed"
	CodeSlowBody      = "body_timeout"
	CodeMethod        = "method_not_allowed"
	CodeBothFailed    = "all_backends_failed"
	CodeOverBudget    = "budget_exceeded"
	CodeCancelled     = "cancelled"
	CodeNoStorage     = "insufficient_storage" // no room on the disk for a large body
)

// RetrySoon is the Retry-After while a server is starting, in seconds.
const RetrySoon = 5

// RetryHelps reports whether the same request may succeed later.
func (e Error) RetryHelps() bool {
	switch {
	case e.Definite, e.Status == http.StatusNotImplemented, e.Status == http.StatusLoopDetected:
		return false
	}
	return e.Status >= 500 || e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests
}

// longestWait is the longest Retry-After for which a client should wait, in seconds. Some SDKs
// ignore a longer one and send the request again at once; anthropic-sdk-go waits for hours.
const longestWait = 60

// SetShouldRetry sets the header that the SDKs of OpenAI and Anthropic obey, whatever the
// status. retryAfter is in seconds; 0 = unknown.
func SetShouldRetry(h http.Header, helps bool, retryAfter int) {
	h.Set(HeaderShouldRetry, strconv.FormatBool(helps && retryAfter <= longestWait))
}

// openAIErrors writes errors as OpenAI does.
type openAIErrors struct{}

func (openAIErrors) ErrorBody(e Error) []byte {
	type inner struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	out := inner{Message: e.Message, Type: e.Type, Code: e.Code}
	if e.Param != "" {
		out.Param = &e.Param
	}
	return MustJSON(struct {
		Error inner `json:"error"`
	}{out})
}

func (d openAIErrors) ErrorEvent(e Error) []byte {
	return fmt.Appendf(nil, "data: %s\n\n", d.ErrorBody(e))
}

// WriteError sends an error response. All of llmsup's own errors are sent here.
func WriteError(w http.ResponseWriter, d Dialect, e Error) {
	out := d.ErrorBody(e)
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(out)))
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	SetShouldRetry(h, e.RetryHelps(), e.RetryAfter)
	w.WriteHeader(e.Status)
	_, _ = w.Write(out) // fails only if the client closed the connection
}

// IsErrorStatus reports whether a status is an error that may be passed on. Others, such
// as a redirect that would lead a client elsewhere with its key, may not.
func IsErrorStatus(status int) bool { return 400 <= status && status <= 599 }

// Shorten truncates text from outside for an answer or a log line.
func Shorten(s string) string {
	const limit = 200 // bytes
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
