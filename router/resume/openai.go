package resume

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// choiceText is what chat completions and completions differ in.
type choiceText interface {
	// eventObject is the "object" of an event.
	eventObject() string
	// path is where a choice has its text: in an event, and in a complete answer.
	path() (event, answer string)
	// text returns the text of a choice, and why it is not resumable.
	text(choice gjson.Result) (text, notResumable string)
	// choice writes the choice of an event. finish is a JSON value.
	choice(text, finish string) string
	extendRequest(body gjson.Result, text string) (wire.Edit, bool)
}

// chatText is chat completions whose deltas are text.
type chatText struct{}

// plainDelta are the fields of a delta that has nothing but text.
var plainDelta = map[string]bool{"role": true, "content": true}

func (chatText) eventObject() string { return "chat.completion.chunk" }

func (chatText) path() (event, answer string) { return "delta.content", "message.content" }

func (chatText) text(choice gjson.Result) (text, notResumable string) {
	delta := choice.Get("delta")
	delta.ForEach(func(key, value gjson.Result) bool {
		if !plainDelta[key.Str] && wire.HasContent(value) {
			notResumable = "it has more than text: " + wire.Shorten(key.Str)
		}
		return notResumable == ""
	})
	if wire.HasContent(choice.Get("logprobs")) {
		notResumable = "it has logprobs"
	}
	return delta.Get("content").Str, notResumable
}

func (chatText) choice(text, finish string) string {
	delta := "{}"
	if text != "" {
		delta = `{"content":` + wire.Quote(text) + `}`
	}
	return `{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}`
}

// extendRequest appends a message of the assistant.
func (chatText) extendRequest(body gjson.Result, text string) (wire.Edit, bool) {
	messages := body.Get("messages")
	list := messages.Array()
	if len(list) == 0 || list[len(list)-1].Get("role").Str == "assistant" {
		return wire.Edit{}, false
	}
	end := messages.Index + len(messages.Raw) - 1
	return wire.Edit{From: end, To: end, Text: `,{"role":"assistant","content":` + wire.Quote(text) + `}`}, true
}

// completionText is completions.
type completionText struct{}

func (completionText) eventObject() string { return "text_completion" }

func (completionText) path() (event, answer string) { return "text", "text" }

func (completionText) text(choice gjson.Result) (text, notResumable string) {
	if wire.HasContent(choice.Get("logprobs")) {
		notResumable = "it has logprobs"
	}
	return choice.Get("text").Str, notResumable
}

func (completionText) choice(text, finish string) string {
	return `{"index":0,"text":` + wire.Quote(text) + `,"logprobs":null,"finish_reason":` + finish + `}`
}

// extendRequest appends to the prompt.
func (completionText) extendRequest(body gjson.Result, text string) (wire.Edit, bool) {
	prompt := body.Get("prompt")
	if prompt.Type != gjson.String {
		return wire.Edit{}, false
	}
	end := prompt.Index + len(prompt.Raw) - 1
	quoted := wire.Quote(text)
	return wire.Edit{From: end, To: end, Text: quoted[1 : len(quoted)-1]}, true
}

// choiceReader reads OpenAI's streams of one choice.
type choiceReader struct{ choiceText }

func (r choiceReader) textPath() string {
	path, _ := r.path()
	return "choices.0." + path
}

func (r choiceReader) observe(t *Transcript, event gjson.Result) string {
	if t.Header.ID == "" {
		t.Header = EventHeader{ID: event.Get("id").Str, Created: event.Get("created").Int(), Model: event.Get("model").Str}
	}
	choice := event.Get("choices.0")
	if !choice.Exists() {
		t.usageSent = t.usageSent || wire.HasContent(event.Get("usage"))
		return ""
	}
	text, notResumable := r.text(choice)
	if choice.Get("index").Int() != 0 || event.Get("choices.#").Int() > 1 {
		notResumable = "it has several choices"
	}
	if reason := choice.Get("finish_reason").Str; reason != "" {
		t.Finish = reason
	}
	t.NotResumable = notResumable
	return text
}

func (r choiceReader) Continuation(event gjson.Result) (text, finish, notResumable string) {
	choice := event.Get("choices.0")
	text, notResumable = r.text(choice)
	return text, choice.Get("finish_reason").Str, notResumable
}

// choiceWriter writes OpenAI's streams of one choice.
type choiceWriter struct{ choiceText }

func (w choiceWriter) ExtendRequest(body gjson.Result, text string) (wire.Edit, bool) {
	return w.extendRequest(body, text)
}

func (w choiceWriter) Join(body string, p PartialAnswer) (string, bool) {
	_, path := w.path()
	return answerFields{"choices.0." + path, "choices.#", "choices.0.finish_reason", "usage.completion_tokens", "usage.prompt_tokens"}.join(body, p)
}

func (w choiceWriter) TextEvent(h EventHeader, text string) []byte {
	return w.event(h, "["+w.choice(text, "null")+"]", "")
}

func (w choiceWriter) FinishEvent(h EventHeader, finish string) []byte {
	return w.event(h, "["+w.choice("", wire.Quote(finish))+"]", "")
}

// End writes the usage in an event of its own. Unknown usage is left out, not 0.
func (w choiceWriter) End(t *Transcript, u wire.Usage, includeUsage bool) []byte {
	var out []byte
	if includeUsage && u.Prompt != nil && !t.usageSent {
		out = w.event(t.Header, "[]", usageObject(u))
	}
	return append(out, "data: [DONE]\n\n"...)
}

func (w choiceWriter) event(h EventHeader, choices, usage string) []byte {
	out := `data: {"id":` + wire.Quote(h.ID) + `,"object":"` + w.eventObject() + `","created":` + strconv.FormatInt(h.Created, 10) +
		`,"model":` + wire.Quote(h.Model) + `,"choices":` + choices
	if usage != "" {
		out += `,"usage":` + usage
	}
	return []byte(out + "}\n\n")
}

func usageObject(u wire.Usage) string {
	prompt, completion := valueOr0(u.Prompt), valueOr0(u.Completion)
	return `{"prompt_tokens":` + strconv.FormatInt(prompt, 10) + `,"completion_tokens":` + strconv.FormatInt(completion, 10) +
		`,"total_tokens":` + strconv.FormatInt(prompt+completion, 10) + `}`
}

func valueOr0(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
