package wire

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"

	"github.com/tidwall/gjson"
)

// Messages is the dialect of Anthropic's /v1/messages.
// Source: Anthropic's API reference, "Messages" and "Streaming messages".
type Messages struct{}

func (Messages) InspectEvent(e Event, committed bool) EventInfo {
	if len(e.Data) == 0 {
		return EventInfo{}
	}
	kind := string(e.Name)
	if kind == "" {
		kind = gjson.GetBytes(e.Data, "type").Str
	}
	switch kind {
	case "message_stop":
		return EventInfo{Ended: true}
	case "error":
		return EventInfo{Failed: cmp.Or(ErrorMessage(gjson.ParseBytes(e.Data)), "an error without a message")}
	case "message_start":
		u := messagesUsage(gjson.GetBytes(e.Data, "message"))
		u.Completion = nil // the answer has not begun; the last event has the total
		return EventInfo{Usage: u}
	case "message_delta":
		object := gjson.ParseBytes(e.Data)
		return EventInfo{Answered: object.Get("delta.stop_reason").Type == gjson.String, Usage: messagesUsage(object)}
	}
	if committed {
		return EventInfo{}
	}
	object := gjson.ParseBytes(e.Data)
	switch kind {
	case "content_block_start":
		block := object.Get("content_block")
		switch block.Get("type").Str {
		case "text", "thinking": // empty at first
			return EventInfo{Answered: HasContent(block.Get("text")) || HasContent(block.Get("thinking"))}
		}
		return EventInfo{Answered: true} // tool_use has the name of the tool
	case "content_block_delta":
		for _, field := range []string{"text", "thinking", "partial_json", "signature"} {
			if HasContent(object.Get("delta." + field)) {
				return EventInfo{Answered: true}
			}
		}
		return EventInfo{}
	}
	return EventInfo{Failed: ErrorMessage(object)}
}

func (Messages) InspectBody(body []byte) EventInfo {
	object, failed := parseObject(body)
	if failed == "" && object.Get("type").Str == "error" {
		failed = "an error without a message"
	}
	if failed == "" && !object.Get("content").IsArray() {
		failed = "an answer without content"
	}
	if failed != "" {
		return EventInfo{Failed: failed}
	}
	return EventInfo{Answered: true, Ended: true, Usage: messagesUsage(object)}
}

// messagesUsage reads Anthropic's "usage". Its input_tokens do not include tokens that
// were read from the cache or written to it.
func messagesUsage(object gjson.Result) Usage {
	object = object.Get("usage")
	if !object.IsObject() {
		return Usage{}
	}
	u := Usage{
		uncached: Count(object.Get("input_tokens")), cacheWritten: Count(object.Get("cache_creation_input_tokens")),
		Cached: Count(object.Get("cache_read_input_tokens")), Completion: Count(object.Get("output_tokens")),
		Cost: costIn(object.Get("cost")),
	}
	u.addParts()
	return u
}

func (d Messages) ErrorEvent(e Error) []byte {
	return fmt.Appendf(nil, "event: error\ndata: %s\n\n", d.ErrorBody(e))
}

// CompleteError returns the body of a backend's error in Anthropic's form. Many backends
// write theirs as OpenAI does, whatever the path: such a body gets what it lacks, and keeps
// all that it has. A body without an "error" stays as it is.
func (Messages) CompleteError(status int, body []byte) []byte {
	if !ValidJSON(body) || !IsObject(body) {
		return body
	}
	kind := Quote(anthropicErrorType(Error{Status: status}))
	var edits []Edit
	switch failure := gjson.GetBytes(body, "error"); {
	case failure.Type == gjson.String:
		edits = append(edits, Edit{failure.Index, failure.Index + len(failure.Raw), `{"type":` + kind + `,"message":` + failure.Raw + `}`})
	case !failure.IsObject():
		return body
	case !failure.Get("type").Exists() && HasContent(failure):
		edits = append(edits, Edit{failure.Index + 1, failure.Index + 1, `"type":` + kind + `,`})
	}
	if !gjson.GetBytes(body, "type").Exists() {
		at := bytes.IndexByte(body, '{') + 1
		edits = append(edits, Edit{at, at, `"type":"error",`})
	}
	return []byte(Apply(string(body), edits))
}

func (Messages) ErrorBody(e Error) []byte {
	type inner struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	return MustJSON(struct {
		Type  string `json:"type"`
		Error inner  `json:"error"`
	}{"error", inner{anthropicErrorType(e), e.Message}})
}

// anthropicErrorType returns the type of an error. Clients of Anthropic's API repeat an
// overloaded_error whatever the header says, so a definite error never has that type.
func anthropicErrorType(e Error) string {
	kind, known := anthropicErrorTypes[e.Status]
	switch {
	case !known && e.Status < http.StatusInternalServerError:
		return "invalid_request_error"
	case !known, kind == "overloaded_error" && !e.RetryHelps():
		return "api_error"
	}
	return kind
}

// anthropicErrorTypes are the error types by status. Other statuses have no type of their own.
// Source: Anthropic's API reference, "Errors".
var anthropicErrorTypes = map[int]string{
	401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error",
	413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
}
