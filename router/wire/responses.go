package wire

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// Responses is the dialect of /v1/responses.
// Source: OpenAI's API reference, "Responses" and "Streaming events".
type Responses struct{ openAIErrors }

func (Responses) InspectEvent(e Event, committed bool) EventInfo {
	if len(e.Data) == 0 {
		return EventInfo{}
	}
	if IsDone(e.Data) { // OpenRouter adds it
		return EventInfo{Ended: true}
	}
	kind := string(e.Name)
	if kind == "" {
		kind = gjson.GetBytes(e.Data, "type").Str
	}
	switch kind {
	case "response.completed", "response.incomplete":
		return EventInfo{Answered: true, Ended: true, Usage: responsesUsage.In(gjson.GetBytes(e.Data, "response.usage"))}
	case "response.failed":
		return EventInfo{Failed: cmp.Or(ErrorMessage(gjson.GetBytes(e.Data, "response")), "response.failed")}
	case "": // llama-server's errors have neither a name nor a type
		return EventInfo{Failed: ErrorMessage(gjson.ParseBytes(e.Data))}
	case "error":
		object := gjson.ParseBytes(e.Data)
		return EventInfo{Failed: cmp.Or(ErrorMessage(object), cmp.Or(object.Get("message").Str, "an error without a message"))}
	}
	if committed {
		return EventInfo{}
	}
	object := gjson.ParseBytes(e.Data)
	if failed := ErrorMessage(object); failed != "" {
		return EventInfo{Failed: failed}
	}
	switch {
	case strings.HasSuffix(kind, ".delta"):
		return EventInfo{Answered: HasContent(object.Get("delta"))}
	case kind == "response.output_item.added":
		// A message or a reasoning item is empty at first; a tool call has the name of
		// the tool.
		return EventInfo{Answered: strings.HasSuffix(object.Get("item.type").Str, "_call")}
	case strings.HasSuffix(kind, ".done"):
		return EventInfo{Answered: true}
	}
	return EventInfo{}
}

func (Responses) InspectBody(body []byte) EventInfo {
	object, failed := parseObject(body)
	if failed == "" && object.Get("status").Str == "failed" {
		failed = "status failed"
	}
	if failed == "" && !object.Get("output").IsArray() {
		failed = "an answer without output"
	}
	if failed != "" {
		return EventInfo{Failed: failed}
	}
	return EventInfo{Answered: true, Ended: true, Usage: responsesUsage.In(object.Get("usage"))}
}

func (Responses) ErrorEvent(e Error) []byte {
	return fmt.Appendf(nil, "event: error\ndata: %s\n\n", MustJSON(struct {
		Type    string  `json:"type"`
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Param   *string `json:"param"`
	}{"error", e.Code, e.Message, nil}))
}
