package router

import "github.com/tidwall/gjson"

// choices is what chat completions and completions have in common: answers
// that come in "choices", OpenAI's usage, and "data: [DONE]" at the end.
// Source: OpenAI's API reference, "Chat Completions" and "Streaming".
type choices struct {
	openAIErrors
	// carries says whether a stream's choice holds something for the client.
	carries func(choice gjson.Result) bool
}

func (d choices) read(e event, committed bool) meaning {
	if string(e.data) == "[DONE]" {
		return meaning{ended: true}
	}
	if len(e.data) == 0 || committed && !mayHold(e.data, `"usage"`) && !mayHold(e.data, `"timings"`) && !mayHold(e.data, `"error"`) {
		return meaning{}
	}
	object := gjson.ParseBytes(e.data)
	m := meaning{failed: d.failure(object), usage: d.usage(object)}
	object.Get("choices").ForEach(func(_, choice gjson.Result) bool {
		m.answered = choice.Get("finish_reason").Str != "" || d.carries(choice)
		return !m.answered
	})
	return m
}

func (d choices) judge(body []byte) meaning {
	object, failed := wellFormed(body)
	if failed != "" {
		return meaning{failed: failed, usage: d.usage(object)}
	}
	m := meaning{failed: d.failure(object), usage: d.usage(object)}
	if m.failed == "" && len(object.Get("choices").Array()) == 0 {
		m.failed = "an answer without choices"
	}
	m.answered, m.ended = m.failed == "", m.failed == ""
	return m
}

// failure finds an error beside the choices or, as OpenRouter writes it once
// generation has begun, inside one.
func (choices) failure(object gjson.Result) string {
	words := errorIn(object)
	object.Get("choices").ForEach(func(_, choice gjson.Result) bool {
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
func (choices) usage(object gjson.Result) usage {
	u := openAIUsage.in(object.Get("usage"))
	if timings := object.Get("timings"); u.completion == nil && timings.Exists() {
		u.prompt, u.cached, u.completion = count(timings.Get("prompt_n")), count(timings.Get("cache_n")), count(timings.Get("predicted_n"))
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
