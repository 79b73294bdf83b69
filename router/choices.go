package router

import (
	"bytes"
	"math/bits"

	"github.com/tidwall/gjson"
)

// choices is what chat completions and completions have in common: answers
// that come in "choices", OpenAI's usage, and "data: [DONE]" at the end.
// Source: OpenAI's API reference, "Chat Completions" and "Streaming".
type choices struct {
	openAIErrors
	// carries says whether a stream's choice holds something for the client.
	carries func(choice gjson.Result) bool
}

func (d choices) read(e event, committed bool) meaning {
	if isDone(e.data) {
		return meaning{ended: true}
	}
	// "usage", "timings" and "error", from where on they are quickly told from the rest.
	if len(e.data) == 0 || committed && !mayHold(e.data, `usage"`) && !mayHold(e.data, `mings"`) && !mayHold(e.data, `rror"`) && !mayFinish(e.data) {
		return meaning{}
	}
	o, valid := outlineOf(e.data)
	if !valid { // who reads it may be less strict
		object := gjson.ParseBytes(e.data)
		o = outline{object.Get("error"), object.Get("choices"), object.Get("usage"), object.Get("timings")}
	}
	m := meaning{failed: d.failure(o), usage: d.usage(o)}
	o.choices.ForEach(func(_, choice gjson.Result) bool {
		if choice.Get("finish_reason").Str != "" {
			m.finished |= 1 << choice.Get("index").Uint() // one above 63 is none
		}
		m.answered = m.answered || m.finished != 0 || d.carries(choice)
		return true
	})
	return m
}

// isDone says whether an event's data is OpenAI's end mark. Some servers send it with a
// space behind it.
func isDone(data []byte) bool { return string(bytes.TrimRight(data, " ")) == "[DONE]" }

// mayFinish is mayHold for a finish reason that is not null, which most events have.
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

// reopened returns the choices that have some more text without a finish reason.
func reopened(data []byte) (choices uint64) {
	gjson.GetBytes(data, "choices").ForEach(func(_, choice gjson.Result) bool {
		if !hasContent(choice.Get("finish_reason")) && hasText(choice) {
			choices |= 1 << choice.Get("index").Uint()
		}
		return true
	})
	return choices
}

// allFinished says whether a stream that has no end mark is complete: each choice
// that its call asks for has its finish reason.
func (choices) allFinished(body []byte, finished uint64) bool {
	if finished == 0 {
		return false
	}
	asked, prompts := int64(1), int64(1)
	scan(body, func(m member) {
		value := body[m.from:m.to]
		switch unquote(string(body[m.keyFrom:m.keyTo])) {
		case "n":
			asked = max(asked, numberIn(value))
		case "prompt":
			prompts = max(prompts, promptsIn(value))
		}
	})
	return int64(bits.OnesCount64(finished)) >= asked*prompts
}

func (d choices) judge(body []byte) meaning {
	o, valid := outlineOf(body)
	if !valid {
		return meaning{failed: notJSON}
	}
	m := meaning{failed: d.failure(o), usage: d.usage(o)}
	if m.failed == "" && (o.choices.Type == gjson.Null || o.choices.IsArray() && !hasContent(o.choices)) {
		m.failed = "an answer without choices"
	}
	m.answered, m.ended = m.failed == "", m.failed == ""
	return m
}

// outline is what matters of an answer or an event. What it does not have does
// not exist.
type outline struct{ err, choices, usage, timings gjson.Result }

// outlineOf passes once over a JSON object. valid is false where it is none.
func outlineOf(text []byte) (o outline, valid bool) {
	valid = scan(text, func(f member) {
		var field *gjson.Result
		switch string(nameOf(text[f.keyFrom:f.keyTo])) {
		case "error":
			field = &o.err
		case "choices":
			field = &o.choices
		case "usage":
			field = &o.usage
		case "timings":
			field = &o.timings
		}
		if field != nil && !field.Exists() {
			*field = gjson.ParseBytes(text[f.from:f.to])
		}
	})
	return o, valid && isObject(text)
}

// failure finds an error beside the choices or, as OpenRouter writes it once
// generation has begun, inside one.
func (choices) failure(o outline) string {
	words := wordsOf(o.err)
	o.choices.ForEach(func(_, choice gjson.Result) bool {
		if words == "" {
			words = errorIn(choice)
		}
		if words == "" && choice.Get("finish_reason").Str == "error" {
			words = "finish_reason error"
		}
		return words == ""
	})
	return words
}

// usage reads OpenAI's "usage". A stream has it only where the client asked for
// it; llama-server's "timings" say the same in every stream.
func (choices) usage(o outline) usage {
	u := openAIUsage.in(o.usage)
	if u.completion == nil && o.timings.Exists() {
		u.prompt, u.cached, u.completion = count(o.timings.Get("prompt_n")), count(o.timings.Get("cache_n")), count(o.timings.Get("predicted_n"))
		if u.cached != nil && u.prompt != nil {
			*u.prompt += *u.cached // prompt_n counts only what was not in the cache
		}
	}
	return u
}

// hasContent says whether a JSON value holds anything at all.
func hasContent(v gjson.Result) bool {
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

// promptsIn returns how many prompts a completion has, of which each gets an answer
// of its own: a list of texts or of lists of tokens is several.
func promptsIn(value []byte) (n int64) {
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

// hasText says whether a choice of an event has text, reasoning, or a part of a call
// of a tool.
func hasText(choice gjson.Result) bool {
	has := hasContent(choice.Get("text"))
	choice.Get("delta").ForEach(func(key, value gjson.Result) bool {
		has = has || key.Str != "role" && hasContent(value)
		return !has
	})
	return has
}
