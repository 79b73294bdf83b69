package router

import (
	"fmt"
	"net/http"
	"strconv"
)

// apiError is an error that llmsup itself gives to a client.
type apiError struct {
	Status     int    // HTTP status
	Type       string // OpenAI's error type
	Code       string // machine-readable, for a program to branch on
	Message    string // a sentence that says what to do
	Param      string // the field of the body that is wrong; "" = none
	RetryAfter int    // seconds; 0 = no such header
}

// Error types of OpenAI's API.
const (
	typeInvalid   = "invalid_request_error"
	typeServer    = "server_error"
	typeRateLimit = "rate_limit_error"
	typeQuota     = "insufficient_quota"
)

// Codes of errors that are not a Reason.
const (
	codeModelNotFound = "model_not_found"
	codeInvalidBody   = "invalid_body"
	codeTooLarge      = "request_too_large"
	codeNoKey         = "missing_api_key"
	codeNotFound      = "not_found"
	codeBadKey        = "invalid_api_key"
	codeNotAllowed    = "route_not_allowed"
	codeNotOperator   = "operator_required"
	codeLoop          = "loop_detected"
	codeOrigin        = "origin_not_allowed"
	codeHost          = "host_not_allowed"
	codeSlowBody      = "body_timeout"
	codeMethod        = "method_not_allowed"
	codeBothFailed    = "all_backends_failed"
	codeOverBudget    = "budget_exceeded"
)

// retrySoon is the Retry-After of a server that is on its way, in seconds.
const retrySoon = 5

// openAIErrors writes errors as OpenAI does.
type openAIErrors struct{}

func (openAIErrors) errorBody(e apiError) []byte {
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
	return mustJSON(struct {
		Error inner `json:"error"`
	}{out})
}

func (d openAIErrors) errorEvent(e apiError) []byte {
	return fmt.Appendf(nil, "data: %s\n\n", d.errorBody(e))
}

// writeError answers with an error of llmsup's own.
func writeError(w http.ResponseWriter, d dialect, e apiError) {
	out := d.errorBody(e)
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(out)))
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(out) // the client may have left
}
