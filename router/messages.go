package router

import (
	"fmt"

	"github.com/tidwall/gjson"
)

// messages is the dialect of Anthropic's /v1/messages.
// Source: Anthropic's API reference, "Messages" and "Streaming messages".
type messages struct{}

func (messages) read(e event, committed bool) meaning {
	if len(e.data) == 0 {
		return meaning{}
	}
	kind := string(e.name)
	if kind == "" {
		kind = gjson.GetBytes(e.data, "type").Str
	}
	switch kind {
	case "message_stop":
		return meaning{ended: true}
	case "error":
		return meaning{failed: orElse(errorIn(gjson.ParseBytes(e.data)), "an error without a message")}
	case "message_start":
		u := messagesUsage(gjson.GetBytes(e.data, "message"))
		u.completion = nil // of an answer that has not begun; the last event tells
		return meaning{usage: u}
	case "message_delta":
		object := gjson.ParseBytes(e.data)
		return meaning{answered: object.Get("delta.stop_reason").Type == gjson.String, usage: messagesUsage(object)}
	}
	if committed {
		return meaning{}
	}
	object := gjson.ParseBytes(e.data)
	switch kind {
	case "content_block_start":
		block := object.Get("content_block")
		switch block.Get("type").Str {
		case "text", "thinking": // an empty shell at first
			return meaning{answered: hasContent(block.Get("text")) || hasContent(block.Get("thinking"))}
		}
		return meaning{answered: true} // tool_use says which tool
	case "content_block_delta":
		for _, field := range []string{"text", "thinking", "partial_json", "signature"} {
			if hasContent(object.Get("delta." + field)) {
				return meaning{answered: true}
			}
		}
		return meaning{}
	}
	return meaning{failed: errorIn(object)}
}

func (messages) judge(body []byte) meaning {
	object, failed := wellFormed(body)
	if failed == "" && object.Get("type").Str == "error" {
		failed = "an error without a message"
	}
	if failed == "" && !object.Get("content").IsArray() {
		failed = "an answer without content"
	}
	if failed != "" {
		return meaning{failed: failed}
	}
	return meaning{answered: true, ended: true, usage: messagesUsage(object)}
}

// messagesUsage reads Anthropic's "usage", whose input_tokens are those that were
// neither read from the cache nor written to it.
func messagesUsage(object gjson.Result) usage {
	object = object.Get("usage")
	if !object.IsObject() {
		return usage{}
	}
	u := usage{
		fresh: count(object.Get("input_tokens")), written: count(object.Get("cache_creation_input_tokens")),
		cached: count(object.Get("cache_read_input_tokens")), completion: count(object.Get("output_tokens")),
		cost: amount(object.Get("cost")),
	}
	u.addParts()
	return u
}

func (d messages) errorEvent(e apiError) []byte {
	return fmt.Appendf(nil, "event: error\ndata: %s\n\n", d.errorBody(e))
}

func (messages) errorBody(e apiError) []byte {
	kind, ok := anthropicTypes[e.Status]
	if !ok {
		kind = "api_error"
	}
	type inner struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	return mustJSON(struct {
		Type  string `json:"type"`
		Error inner  `json:"error"`
	}{"error", inner{kind, e.Message}})
}

// anthropicTypes are the error types by status, as in Anthropic's reference.
var anthropicTypes = map[int]string{
	400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
	408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}
