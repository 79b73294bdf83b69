package router

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// responses is the dialect of /v1/responses.
// Source: OpenAI's API reference, "Responses" and "Streaming events".
type responses struct{ openAIErrors }

func (responses) read(e event, committed bool) meaning {
	if len(e.data) == 0 {
		return meaning{}
	}
	if isDone(e.data) { // OpenRouter adds it
		return meaning{ended: true}
	}
	kind := string(e.name)
	if kind == "" {
		kind = gjson.GetBytes(e.data, "type").Str
	}
	switch kind {
	case "response.completed", "response.incomplete":
		return meaning{answered: true, ended: true, usage: responsesUsage.in(gjson.GetBytes(e.data, "response.usage"))}
	case "response.failed":
		return meaning{failed: orElse(errorIn(gjson.GetBytes(e.data, "response")), "response.failed")}
	case "error":
		object := gjson.ParseBytes(e.data)
		return meaning{failed: orElse(errorIn(object), orElse(object.Get("message").Str, "an error without a message"))}
	}
	if committed {
		return meaning{}
	}
	object := gjson.ParseBytes(e.data)
	if failed := errorIn(object); failed != "" {
		return meaning{failed: failed}
	}
	switch {
	case strings.HasSuffix(kind, ".delta"):
		return meaning{answered: hasContent(object.Get("delta"))}
	case kind == "response.output_item.added":
		// A message or a reasoning item is an empty shell at first; a call of a
		// tool says which one.
		return meaning{answered: strings.HasSuffix(object.Get("item.type").Str, "_call")}
	case strings.HasSuffix(kind, ".done"):
		return meaning{answered: true}
	}
	return meaning{}
}

func (responses) judge(body []byte) meaning {
	object, failed := wellFormed(body)
	if failed == "" && object.Get("status").Str == "failed" {
		failed = "status failed"
	}
	if failed == "" && !object.Get("output").IsArray() {
		failed = "an answer without output"
	}
	if failed != "" {
		return meaning{failed: failed}
	}
	return meaning{answered: true, ended: true, usage: responsesUsage.in(object.Get("usage"))}
}

func (responses) errorEvent(e apiError) []byte {
	return fmt.Appendf(nil, "event: error\ndata: %s\n\n", mustJSON(struct {
		Type    string  `json:"type"`
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Param   *string `json:"param"`
	}{"error", e.Code, e.Message, nil}))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
