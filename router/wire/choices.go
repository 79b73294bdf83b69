package wire

import (
	"bytes"
	"math/bits"

	"github.com/tidwall/gjson"
)

// Choices is the dialect of chat completions and completions: answers in "choices",
// OpenAI's usage, and "data: [DONE]" at the end of a stream.
// Source: OpenAI's API reference, "Chat Completions" and "Streaming".
type Choices struct {
	openAIErrors
	// hasContent returns whether a choice of an event has content for the client.
	hasContent func(choice gjson.Result) bool
}

func (d Choices) InspectEvent(e Event, committed bool) EventInfo {
	if IsDone(e.Data) {
		return EventInfo{Ended: true}
	}
	// The ends of "usage", "timings" and "error": few other texts have them.
	if len(e.Data) == 0 || committed && !MightContain(e.Data, `usage"`) && !MightContain(e.Data, `mings"`) && !MightContain(e.Data, `rror"`) && !mightFinish(e.Data) {
		return EventInfo{}
	}
	o, valid := summarizeChoices(e.Data)
	if !valid { // the client's parser may be less strict
		object := gjson.ParseBytes(e.Data)
		o = ChoiceSummary{object.Get("error"), object.Get("choices"), object.Get("usage"), object.Get("timings")}
	}
	m := EventInfo{Failed: d.Failure(o), Usage: d.Usage(o)}
	o.Choices.ForEach(func(_, choice gjson.Result) bool {
		if choice.Get("finish_reason").Str != "" {
			m.Finished |= 1 << choice.Get("index").Uint() // a choice above 63 is ignored
		}
		m.Answered = m.Answered || m.Finished != 0 || d.hasContent(choice)
		return true
	})
	return m
}

// IsDone returns whether an event's data is OpenAI's end mark. Some servers send a space
// after it.
func IsDone(data []byte) bool { return string(bytes.TrimRight(data, " ")) == "[DONE]" }

// mightFinish is MightContain for a finish reason that is not null: most events have one
// that is null.
func mightFinish(data []byte) bool {
	for {
		_, rest, found := bytes.Cut(data, []byte(`nish_reason"`))
		if !found {
			return false
		}
		if data = bytes.TrimLeft(rest, ": \t"); len(data) > 0 && data[0] == '"' {
			return true
		}
	}
}

// Reopened returns the choices that have more text without a finish reason.
func Reopened(data []byte) (choices uint64) {
	gjson.GetBytes(data, "choices").ForEach(func(_, choice gjson.Result) bool {
		if !HasContent(choice.Get("finish_reason")) && HasText(choice) {
			choices |= 1 << choice.Get("index").Uint()
		}
		return true
	})
	return choices
}

// AllFinished returns whether a stream without an end mark is complete: each choice that
// the request body asks for has its finish reason.
func (Choices) AllFinished(body []byte, finished uint64) bool {
	if finished == 0 {
		return false
	}
	asked, prompts := int64(1), int64(1)
	Scan(body, func(m Member) {
		value := body[m.From:m.To]
		switch Unquote(string(body[m.KeyFrom:m.KeyTo])) {
		case "n":
			asked = max(asked, LenientNumber(value))
		case "prompt":
			prompts = max(prompts, CountPrompts(value))
		}
	})
	return int64(bits.OnesCount64(finished)) >= asked*prompts
}

func (d Choices) InspectBody(body []byte) EventInfo {
	o, valid := summarizeChoices(body)
	if !valid {
		return EventInfo{Failed: NotJSON}
	}
	m := EventInfo{Failed: d.Failure(o), Usage: d.Usage(o)}
	if m.Failed == "" && (o.Choices.Type == gjson.Null || o.Choices.IsArray() && !HasContent(o.Choices)) {
		m.Failed = "an answer without choices"
	}
	m.Answered, m.Ended = m.Failed == "", m.Failed == ""
	return m
}

// ChoiceSummary is the members of an answer or an event that the router reads. A member
// that is missing does not Exist.
type ChoiceSummary struct{ Err, Choices, usage, Timings gjson.Result }

// summarizeChoices reads a JSON object in one pass. valid is false if it is not one.
func summarizeChoices(text []byte) (o ChoiceSummary, valid bool) {
	valid = Scan(text, func(f Member) {
		var field *gjson.Result
		switch string(MemberName(text[f.KeyFrom:f.KeyTo])) {
		case "error":
			field = &o.Err
		case "choices":
			field = &o.Choices
		case "usage":
			field = &o.usage
		case "timings":
			field = &o.Timings
		}
		if field != nil && !field.Exists() {
			*field = gjson.ParseBytes(text[f.From:f.To])
		}
	})
	return o, valid && IsObject(text)
}

// Failure returns the message of an error beside the choices or inside one, where
// OpenRouter writes it once generation has begun; "" = there is none.
func (Choices) Failure(o ChoiceSummary) string {
	message := errorMessage(o.Err)
	o.Choices.ForEach(func(_, choice gjson.Result) bool {
		if message == "" {
			message = ErrorMessage(choice)
		}
		if message == "" && choice.Get("finish_reason").Str == "error" {
			message = "finish_reason error"
		}
		return message == ""
	})
	return message
}

// Usage reads OpenAI's "usage". A stream has it only if the client asked for it;
// llama-server's "timings" have the same figures in every stream.
func (Choices) Usage(o ChoiceSummary) Usage {
	u := OpenAIUsage.In(o.usage)
	if u.Completion == nil && o.Timings.Exists() {
		u.Prompt, u.Cached, u.Completion = Count(o.Timings.Get("prompt_n")), Count(o.Timings.Get("cache_n")), Count(o.Timings.Get("predicted_n"))
		if u.Cached != nil && u.Prompt != nil {
			*u.Prompt += *u.Cached // prompt_n does not include cached tokens
		}
	}
	return u
}

// HasContent returns whether a JSON value is anything but null, false or empty.
func HasContent(v gjson.Result) bool {
	switch v.Type {
	case gjson.Null, gjson.False:
		return false
	case gjson.String:
		return v.Str != ""
	case gjson.JSON:
		some := false
		v.ForEach(func(_, _ gjson.Result) bool { some = true; return false })
		return some
	case gjson.Number, gjson.True:
	}
	return true
}

// CountPrompts returns how many prompts a completion's "prompt" has. Each gets its own
// answer: a list of texts, or of lists of tokens, is several prompts.
func CountPrompts(value []byte) (n int64) {
	if value[0] != '[' {
		return 1
	}
	gjson.ParseBytes(value).ForEach(func(_, prompt gjson.Result) bool {
		if prompt.Type != gjson.Number {
			n++
		}
		return true
	})
	return max(n, 1)
}

// HasText returns whether a choice of an event has text, reasoning, or a part of a tool
// call.
func HasText(choice gjson.Result) bool {
	has := HasContent(choice.Get("text"))
	choice.Get("delta").ForEach(func(key, value gjson.Result) bool {
		has = has || key.Str != "role" && HasContent(value)
		return !has
	})
	return has
}
