package wire

import (
	"bytes"
	"math/bits"

	"github.com/tidwall/gjson"
)

// Choices is what chat completions and completions have in common: answers
// that come in "choices", OpenAI's usage, and "data: [DONE]" at the end.
// Source: OpenAI's API reference, "Chat Completions" and "Streaming".
type Choices struct {
	openAIErrors
	// Carries says whether a stream's choice holds something for the client.
	hasContent func(choice gjson.Result) bool
}

func (d Choices) InspectEvent(e Event, committed bool) EventInfo {
	if IsDone(e.Data) {
		return EventInfo{Ended: true}
	}
	// "usage", "timings" and "error", from where on they are quickly told from the rest.
	if len(e.Data) == 0 || committed && !MightContain(e.Data, `usage"`) && !MightContain(e.Data, `mings"`) && !MightContain(e.Data, `rror"`) && !mayFinish(e.Data) {
		return EventInfo{}
	}
	o, valid := summarizeChoices(e.Data)
	if !valid { // who reads it may be less strict
		object := gjson.ParseBytes(e.Data)
		o = ChoiceSummary{object.Get("error"), object.Get("choices"), object.Get("usage"), object.Get("timings")}
	}
	m := EventInfo{Failed: d.Failure(o), Usage: d.Usage(o)}
	o.Choices.ForEach(func(_, choice gjson.Result) bool {
		if choice.Get("finish_reason").Str != "" {
			m.Finished |= 1 << choice.Get("index").Uint() // one above 63 is none
		}
		m.Answered = m.Answered || m.Finished != 0 || d.hasContent(choice)
		return true
	})
	return m
}

// IsDone says whether an event's data is OpenAI's end mark. Some servers send it with a
// space behind it.
func IsDone(data []byte) bool { return string(bytes.TrimRight(data, " ")) == "[DONE]" }

// mayFinish is MayHold for a finish reason that is not null, which most events have.
func mayFinish(data []byte) bool {
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

// Reopened returns the choices that have some more text without a finish reason.
func Reopened(data []byte) (choices uint64) {
	gjson.GetBytes(data, "choices").ForEach(func(_, choice gjson.Result) bool {
		if !HasContent(choice.Get("finish_reason")) && HasText(choice) {
			choices |= 1 << choice.Get("index").Uint()
		}
		return true
	})
	return choices
}

// AllFinished says whether a stream that has no end mark is complete: each choice
// that its call asks for has its finish reason.
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

// ChoiceSummary is what matters of an answer or an event. What it does not have does
// not exist.
type ChoiceSummary struct{ Err, Choices, usage, Timings gjson.Result }

// summarizeChoices passes once over a JSON object. valid is false where it is none.
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

// Failure finds an error beside the choices or, as OpenRouter writes it once
// generation has begun, inside one.
func (Choices) Failure(o ChoiceSummary) string {
	words := errorMessage(o.Err)
	o.Choices.ForEach(func(_, choice gjson.Result) bool {
		if words == "" {
			words = ErrorMessage(choice)
		}
		if words == "" && choice.Get("finish_reason").Str == "error" {
			words = "finish_reason error"
		}
		return words == ""
	})
	return words
}

// Usage reads OpenAI's "usage". A stream has it only where the client asked for
// it; llama-server's "timings" say the same in every stream.
func (Choices) Usage(o ChoiceSummary) Usage {
	u := OpenAIUsage.In(o.usage)
	if u.Completion == nil && o.Timings.Exists() {
		u.Prompt, u.Cached, u.Completion = Count(o.Timings.Get("prompt_n")), Count(o.Timings.Get("cache_n")), Count(o.Timings.Get("predicted_n"))
		if u.Cached != nil && u.Prompt != nil {
			*u.Prompt += *u.Cached // prompt_n counts only what was not in the cache
		}
	}
	return u
}

// HasContent says whether a JSON value holds anything at all.
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

// CountPrompts returns how many prompts a completion has, of which each gets an answer
// of its own: a list of texts or of lists of tokens is several.
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

// HasText says whether a choice of an event has text, reasoning, or a part of a call
// of a tool.
func HasText(choice gjson.Result) bool {
	has := HasContent(choice.Get("text"))
	choice.Get("delta").ForEach(func(key, value gjson.Result) bool {
		has = has || key.Str != "role" && HasContent(value)
		return !has
	})
	return has
}
