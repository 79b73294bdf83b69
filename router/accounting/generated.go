package accounting

import (
	"strings"

	"github.com/tidwall/gjson"
)

// generatedBytes returns how many bytes of generated text an event or a whole answer has:
// text, reasoning, and arguments of tool calls.
func generatedBytes(path string, object gjson.Result) (n int) {
	switch path {
	case "/v1/chat/completions", "/v1/completions", "/v1/fim/completions":
		object.Get("choices").ForEach(func(_, choice gjson.Result) bool {
			n += textBytes(choice, "text") + messageBytes(choice.Get("delta")) + messageBytes(choice.Get("message"))
			return true
		})
	case "/v1/messages":
		n = textBytes(object.Get("delta"), "text", "thinking", "partial_json") + textBytes(object.Get("content_block"), "text", "thinking")
		object.Get("content").ForEach(func(_, block gjson.Result) bool {
			n += textBytes(block, "text", "thinking") + len(block.Get("input").Raw)
			return true
		})
	case "/v1/responses":
		if strings.HasSuffix(object.Get("type").Str, ".delta") {
			return textBytes(object, "delta")
		}
		object.Get("output").ForEach(func(_, item gjson.Result) bool { // of a whole answer; an event has it in "response"
			n += textBytes(item, "arguments")
			for _, part := range append(item.Get("content").Array(), item.Get("summary").Array()...) {
				n += textBytes(part, "text")
			}
			return true
		})
	}
	return n
}

// messageBytes counts the text of a chat's message, or of a delta. Reasoning may be there
// under two names; the longer one counts.
func messageBytes(message gjson.Result) int {
	n := textBytes(message, "content", "refusal") + max(textBytes(message, "reasoning"), textBytes(message, "reasoning_content"))
	n += textBytes(message.Get("function_call"), "arguments")
	message.Get("tool_calls").ForEach(func(_, call gjson.Result) bool {
		n += textBytes(call.Get("function"), "arguments")
		return true
	})
	return n
}

func textBytes(object gjson.Result, fields ...string) (n int) {
	for _, field := range fields {
		if value := object.Get(field); value.Type == gjson.String {
			n += len(value.Str)
		} else if value.IsArray() || value.IsObject() {
			n += len(value.Raw)
		}
	}
	return n
}
