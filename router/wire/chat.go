package wire

import "github.com/tidwall/gjson"

// Chat is the dialect of /v1/chat/completions.
var Chat = Choices{hasContent: deltaHasContent}

// deltaFields are the fields of a delta that are content. llama-server sends a delta
// that has only a role as soon as the call has a slot, long before it has processed the
// prompt; OpenRouter sends empty deltas.
var deltaFields = []string{
	"content", "reasoning_content", "reasoning", "reasoning_details", "thinking", "refusal",
	"tool_calls", "function_call", "audio", "images",
}

func deltaHasContent(choice gjson.Result) bool {
	delta := choice.Get("delta")
	for _, field := range deltaFields {
		if HasContent(delta.Get(field)) {
			return true
		}
	}
	return false
}
