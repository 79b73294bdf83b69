package resume

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// resumable is a dialect whose streams of plain text somebody else can go on
// with.
type resumable interface {
	// Observe takes an event of the first part into account, and returns what it adds to
	// the text.
	Observe(s *Transcript, event gjson.Result) (text string)
	// Continuation returns what an event of the continuation adds to the text, the finish
	// reason, if it has one, and why, with it, it is no continuation.
	Continuation(event gjson.Result) (text, finish, spoiled string)
	// textPath is where the text stands in an event, as gjson's path.
	textPath() string
	// ExtendRequest returns the change of a request's body that asks for a continuation of
	// text; ok is false where there is no place for it.
	ExtendRequest(object gjson.Result, text string) (change wire.Edit, ok bool)
	// Join puts a part before a whole answer that continues it.
	Join(whole string, p PartialAnswer) (body string, ok bool)
	// TextEvent is an event with some more text.
	TextEvent(h EventHeader, text string) []byte
	// FinishEvent are the events that come with the finish reason, before the usage
	// is known.
	FinishEvent(h EventHeader, finish string) []byte
	// End are the events that end a stream, of which FinishChunk has been sent.
	// asked: the client wants to know what it used.
	End(s *Transcript, u wire.Usage, asked bool) []byte
	// OutOfTokens is the finish reason of an answer that has come to its limit.
	OutOfTokens() string
}

// DialectOf returns how streams of a path are continued; nil = they cannot be.
func DialectOf(path string) resumable {
	switch path {
	case "/v1/chat/completions":
		return ChatText{}
	case "/v1/completions":
		return completionText{}
	case "/v1/messages":
		return messagesText{}
	}
	return nil
}

// ChatText is chat completions whose deltas are text.
type ChatText struct{}

// plainDelta are the fields of a delta that text alone has.
var plainDelta = map[string]bool{"role": true, "content": true}

func (ChatText) textPath() string { return "choices.0.delta.content" }

func (ChatText) Text(choice gjson.Result) (text, spoiled string) {
	delta := choice.Get("delta")
	delta.ForEach(func(key, value gjson.Result) bool {
		if !plainDelta[key.Str] && wire.HasContent(value) {
			spoiled = "it has more than text: " + wire.Shorten(key.Str)
		}
		return spoiled == ""
	})
	if wire.HasContent(choice.Get("logprobs")) {
		spoiled = "it has logprobs"
	}
	return delta.Get("content").Str, spoiled
}

func (ChatText) ExtendRequest(object gjson.Result, text string) (wire.Edit, bool) {
	messages := object.Get("messages")
	list := messages.Array()
	if len(list) == 0 || list[len(list)-1].Get("role").Str == "assistant" {
		return wire.Edit{}, false
	}
	end := messages.Index + len(messages.Raw) - 1
	return wire.Edit{From: end, To: end, Text: `,{"role":"assistant","content":` + wire.Quote(text) + `}`}, true
}

func (d ChatText) Observe(s *Transcript, event gjson.Result) string {
	return observeChoice(d, s, event)
}

func (d ChatText) Continuation(event gjson.Result) (text, finish, spoiled string) {
	return continuationText(d, event)
}

func (ChatText) TextEvent(h EventHeader, text string) []byte {
	return openAIEvent(h, "chat.completion.chunk", `[{"index":0,"delta":{"content":`+wire.Quote(text)+`},"finish_reason":null}]`, "")
}

func (ChatText) FinishEvent(h EventHeader, finish string) []byte {
	return openAIEvent(h, "chat.completion.chunk", `[{"index":0,"delta":{},"finish_reason":`+wire.Quote(finish)+`}]`, "")
}

func (ChatText) End(s *Transcript, u wire.Usage, asked bool) []byte {
	return openAIDone(s, "chat.completion.chunk", u, asked)
}

func (ChatText) OutOfTokens() string { return "length" }

// completionText is completions.
type completionText struct{}

func (completionText) textPath() string { return "choices.0.text" }

func (completionText) Text(choice gjson.Result) (text, spoiled string) {
	if wire.HasContent(choice.Get("logprobs")) {
		spoiled = "it has logprobs"
	}
	return choice.Get("text").Str, spoiled
}

func (completionText) ExtendRequest(object gjson.Result, text string) (wire.Edit, bool) {
	prompt := object.Get("prompt")
	if prompt.Type != gjson.String {
		return wire.Edit{}, false
	}
	end := prompt.Index + len(prompt.Raw) - 1
	quoted := wire.Quote(text)
	return wire.Edit{From: end, To: end, Text: quoted[1 : len(quoted)-1]}, true
}

func (d completionText) Observe(s *Transcript, event gjson.Result) string {
	return observeChoice(d, s, event)
}

func (d completionText) Continuation(event gjson.Result) (text, finish, spoiled string) {
	return continuationText(d, event)
}

func (completionText) TextEvent(h EventHeader, text string) []byte {
	return openAIEvent(h, "text_completion", `[{"index":0,"text":`+wire.Quote(text)+`,"logprobs":null,"finish_reason":null}]`, "")
}

func (completionText) FinishEvent(h EventHeader, finish string) []byte {
	return openAIEvent(h, "text_completion", `[{"index":0,"text":"","logprobs":null,"finish_reason":`+wire.Quote(finish)+`}]`, "")
}

func (completionText) End(s *Transcript, u wire.Usage, asked bool) []byte {
	return openAIDone(s, "text_completion", u, asked)
}

func (completionText) OutOfTokens() string { return "length" }

func (ChatText) Join(whole string, p PartialAnswer) (string, bool) {
	return join(whole, inChoices("message.content"), p)
}

func (completionText) Join(whole string, p PartialAnswer) (string, bool) {
	return join(whole, inChoices("text"), p)
}

// textPlace is where a whole answer has its text and what belongs to it, as gjson's
// paths.
type textPlace struct{ text, parts, finish, completion, prompt string }

func inChoices(text string) textPlace {
	return textPlace{"choices.0." + text, "choices.#", "choices.0.finish_reason", "usage.completion_tokens", "usage.prompt_tokens"}
}

// join puts a part before the text of an answer, unless that repeats it, and
// counts its tokens where they were spent.
func join(whole string, at textPlace, p PartialAnswer) (string, bool) {
	object := gjson.Parse(whole)
	text := object.Get(at.text)
	isText := text.Type == gjson.String || text.Type == gjson.Null && text.Index > 0 // null beside a tool call
	if !isText || object.Get(at.parts).Int() != 1 {
		return "", false
	}
	rest := NewOverlapFilter(p.Text)
	changes := []wire.Edit{{From: text.Index, To: text.Index + len(text.Raw), Text: wire.Quote(p.Text + rest.Filter(text.Str) + rest.Flush(object.Get(at.finish).Str))}}
	for field, more := range map[string]int64{at.completion: p.Tokens, at.prompt: -p.Tokens} {
		if n := object.Get(field); n.Type == gjson.Number {
			changes = append(changes, wire.Edit{From: n.Index, To: n.Index + len(n.Raw), Text: strconv.FormatInt(max(n.Int()+more, 0), 10)})
		}
	}
	return wire.Apply(whole, changes), true
}

// openAIEvent writes an event as OpenAI does.
func openAIEvent(h EventHeader, object, choices, usage string) []byte {
	out := `data: {"id":` + wire.Quote(h.ID) + `,"object":"` + object + `","created":` + strconv.FormatInt(h.Created, 10) +
		`,"model":` + wire.Quote(h.Model) + `,"choices":` + choices
	if usage != "" {
		out += `,"usage":` + usage
	}
	return []byte(out + "}\n\n")
}

func usageObject(u wire.Usage) string {
	number := func(n *int64) int64 {
		if n == nil {
			return 0
		}
		return *n
	}
	prompt, completion := number(u.Prompt), number(u.Completion)
	return `{"prompt_tokens":` + strconv.FormatInt(prompt, 10) + `,"completion_tokens":` + strconv.FormatInt(completion, 10) +
		`,"total_tokens":` + strconv.FormatInt(prompt+completion, 10) + `}`
}

// choiceText is what chats and completions have in common.
type choiceText interface {
	// Text returns what a choice of an event adds to the text, and why, with it,
	// nobody else could go on.
	Text(choice gjson.Result) (text, spoiled string)
}

func observeChoice(d choiceText, s *Transcript, event gjson.Result) string {
	if s.Header.ID == "" {
		s.Header = EventHeader{ID: event.Get("id").Str, Created: event.Get("created").Int(), Model: event.Get("model").Str}
	}
	choice := event.Get("choices.0")
	if !choice.Exists() {
		s.usageSent = s.usageSent || wire.HasContent(event.Get("usage"))
		return ""
	}
	text, spoiled := d.Text(choice)
	if choice.Get("index").Int() != 0 || event.Get("choices.#").Int() > 1 {
		spoiled = "it has several choices"
	}
	if reason := choice.Get("finish_reason").Str; reason != "" {
		s.Finish = reason
	}
	s.NotResumable = spoiled
	return text
}

func continuationText(d choiceText, event gjson.Result) (text, finish, spoiled string) {
	choice := event.Get("choices.0")
	text, spoiled = d.Text(choice)
	return text, choice.Get("finish_reason").Str, spoiled
}

// openAIDone has the usage in an event of its own, which is not told as 0 where
// nobody knows it.
func openAIDone(s *Transcript, object string, u wire.Usage, asked bool) []byte {
	var out []byte
	if asked && u.Prompt != nil && !s.usageSent {
		out = openAIEvent(s.Header, object, "[]", usageObject(u))
	}
	return append(out, "data: [DONE]\n\n"...)
}

// NotResumable says why a call's answer could not be continued by another backend,
// by what the call asks for; "" = it could.
func NotResumable(object gjson.Result) string {
	seen, twice := map[string]bool{}, false
	object.ForEach(func(key, _ gjson.Result) bool {
		twice = twice || seen[key.Str]
		seen[key.Str] = true
		return !twice
	})
	if twice { // backends differ in which one they read
		return "it has a field twice"
	}
	for field, reason := range map[string]string{
		"logprobs": "logprobs", "top_logprobs": "logprobs", "grammar": "a grammar", "json_schema": "a JSON schema",
		"n_probs": "probabilities", "echo": "an echo", "suffix": "a suffix", "best_of": "the best of several",
	} {
		if wire.HasContent(object.Get(field)) {
			return "it asks for " + reason
		}
	}
	if n := object.Get("n"); n.Exists() && n.Num != 1 {
		return "it asks for several choices"
	}
	for _, field := range tokenLimits {
		limit := object.Get(field)
		if _, err := strconv.ParseInt(limit.Raw, 10, 64); err != nil && limit.Type == gjson.Number {
			// A fraction, 1e400: backends differ in what they make of it, and so would
			// what is left of it.
			return "its limit is no whole number"
		}
	}
	if kind := object.Get("response_format.type").Str; kind != "" && kind != "text" {
		return "it asks for " + wire.Shorten(kind)
	}
	return ""
}

// tokenLimits are the fields that bound an answer's length.
var tokenLimits = []string{"max_tokens", "max_completion_tokens", "n_predict"}

// ReduceMaxTokens returns the changes that take what was spent off the limits. left is
// the smallest of what remains; -1 where there is no limit.
func ReduceMaxTokens(object gjson.Result, spent int64) (changes []wire.Edit, left int64) {
	left = -1
	for _, field := range tokenLimits {
		limit := object.Get(field)
		if limit.Type != gjson.Number || limit.Num < 0 {
			continue
		}
		rest := max(limit.Int()-spent, 0)
		if left < 0 || rest < left {
			left = rest
		}
		changes = append(changes, wire.Edit{From: limit.Index, To: limit.Index + len(limit.Raw), Text: strconv.FormatInt(rest, 10)})
	}
	return changes, left
}

// PartialAnswer is the first part of an answer that another backend can continue.
type PartialAnswer struct {
	Text   string
	Tokens int64
}
