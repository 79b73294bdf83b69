package resume

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// messagesText is Anthropic's messages whose only content is a block of text. Its
// tokens are counted by events, as in the other dialects.
type messagesText struct{}

func (messagesText) textPath() string { return "delta.text" }

func (messagesText) Observe(s *Transcript, event gjson.Result) (text string) {
	switch event.Get("type").Str {
	case "message_start":
		s.Header = EventHeader{ID: event.Get("message.id").Str, Model: event.Get("message.model").Str}
	case "content_block_start":
		if block := event.Get("content_block"); event.Get("index").Int() == 0 && block.Get("type").Str == "text" {
			return block.Get("text").Str
		}
		s.NotResumable = "it has more than a block of text"
	case "content_block_delta":
		if event.Get("index").Int() == 0 && event.Get("delta.type").Str == "text_delta" {
			return event.Get("delta.text").Str
		}
		s.NotResumable = "it has more than text"
	case "content_block_stop":
		s.TextEnded = true
	case "message_delta":
		s.Finish, s.usageSent = event.Get("delta.stop_reason").Str, true
	}
	return ""
}

func (messagesText) Continuation(event gjson.Result) (text, finish, spoiled string) {
	switch event.Get("type").Str {
	case "content_block_start":
		if block := event.Get("content_block"); block.Get("type").Str != "text" || event.Get("index").Int() != 0 {
			return "", "", "its continuation has more than a block of text"
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

func (messagesText) ExtendRequest(object gjson.Result, text string) (wire.Edit, bool) {
	return ChatText{}.ExtendRequest(object, text)
}

func (messagesText) Join(whole string, p PartialAnswer) (string, bool) {
	return join(whole, textPlace{"content.0.text", "content.#", "stop_reason", "usage.output_tokens", "usage.input_tokens"}, p)
}

func (messagesText) TextEvent(_ EventHeader, text string) []byte {
	return namedEvent("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":`+wire.Quote(text)+`}}`)
}

// FinishEvent is nothing: the finish reason stands beside the usage.
func (messagesText) FinishEvent(EventHeader, string) []byte { return nil }

func (messagesText) End(s *Transcript, u wire.Usage, _ bool) []byte {
	var out []byte
	if !s.usageSent {
		spent := int64(0)
		if u.Completion != nil {
			spent = *u.Completion
		}
		out = append(namedEvent("content_block_stop", `{"type":"content_block_stop","index":0}`), namedEvent("message_delta",
			`{"type":"message_delta","delta":{"stop_reason":`+wire.Quote(s.Finish)+`,"stop_sequence":null},"usage":{"output_tokens":`+strconv.FormatInt(spent, 10)+`}}`)...)
	}
	return append(out, namedEvent("message_stop", `{"type":"message_stop"}`)...)
}

func (messagesText) OutOfTokens() string { return "max_tokens" }

// namedEvent writes an event as Anthropic does.
func namedEvent(name, data string) []byte {
	return []byte("event: " + name + "\ndata: " + data + "\n\n")
}
