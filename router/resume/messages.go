package resume

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// messagesReader reads Anthropic's messages whose only content is one block of text.
// Tokens are counted by events, as in the other dialects.
type messagesReader struct{}

func (messagesReader) textPath() string { return "delta.text" }

func (messagesReader) observe(t *Transcript, event gjson.Result) (text string) {
	switch event.Get("type").Str {
	case "message_start":
		t.Header = EventHeader{ID: event.Get("message.id").Str, Model: event.Get("message.model").Str}
	case "content_block_start":
		if block := event.Get("content_block"); event.Get("index").Int() == 0 && block.Get("type").Str == "text" {
			return block.Get("text").Str
		}
		t.NotResumable = "it has more than one block of text"
	case "content_block_delta":
		if event.Get("index").Int() == 0 && event.Get("delta.type").Str == "text_delta" {
			return event.Get("delta.text").Str
		}
		t.NotResumable = "it has more than text"
	case "content_block_stop":
		t.TextEnded = true
	case "message_delta":
		t.Finish, t.usageSent = event.Get("delta.stop_reason").Str, true
	}
	return ""
}

func (messagesReader) Continuation(event gjson.Result) (text, finish, notResumable string) {
	switch event.Get("type").Str {
	case "content_block_start":
		if block := event.Get("content_block"); block.Get("type").Str != "text" || event.Get("index").Int() != 0 {
			return "", "", "its continuation has more than one block of text"
		}
		return event.Get("content_block.text").Str, "", ""
	case "content_block_delta":
		if event.Get("delta.type").Str != "text_delta" {
			return "", "", "its continuation has more than text"
		}
		return event.Get("delta.text").Str, "", ""
	case "message_delta":
		return "", event.Get("delta.stop_reason").Str, ""
	}
	return "", "", ""
}

// messagesWriter writes Anthropic's messages.
type messagesWriter struct{}

func (messagesWriter) ExtendRequest(body gjson.Result, text string) (wire.Edit, bool) {
	return chatText{}.extendRequest(body, text)
}

func (messagesWriter) Join(body string, p PartialAnswer) (string, bool) {
	return answerFields{"content.0.text", "content.#", "stop_reason", "usage.output_tokens", "usage.input_tokens"}.join(body, p)
}

func (messagesWriter) TextEvent(_ EventHeader, text string) []byte {
	return namedEvent("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":`+wire.Quote(text)+`}}`)
}

// FinishEvent is nil: the finish reason is in the event with the usage.
func (messagesWriter) FinishEvent(EventHeader, string) []byte { return nil }

func (messagesWriter) End(t *Transcript, u wire.Usage, _ bool) []byte {
	var out []byte
	if !t.usageSent {
		out = append(namedEvent("content_block_stop", `{"type":"content_block_stop","index":0}`), namedEvent("message_delta",
			`{"type":"message_delta","delta":{"stop_reason":`+wire.Quote(t.Finish)+`,"stop_sequence":null},"usage":{"output_tokens":`+strconv.FormatInt(valueOr0(u.Completion), 10)+`}}`)...)
	}
	return append(out, namedEvent("message_stop", `{"type":"message_stop"}`)...)
}

// namedEvent writes an event as Anthropic does.
func namedEvent(name, data string) []byte {
	return []byte("event: " + name + "\ndata: " + data + "\n\n")
}
