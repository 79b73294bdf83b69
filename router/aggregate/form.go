package aggregate

import (
	"bytes"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Form is a request's body as it is sent to the backend: a non-streaming body changed so
// that the backend streams its answer, from which an aggregator builds the whole one, or a
// streaming body that requests the usage. With a stream the first token, not the last one,
// shows that the server answers.
type Form struct {
	body        request.Body
	path        string
	chat        bool // a chat completion
	choices     int  // how many choices the client asked for
	stops       bool // it has stop strings
	logprobs    bool // the client asked for logprobs
	from, to    int  // body.Raw[from:to] is replaced by before + replacement + after
	replacement string

	before, after string // around replacement
}

// streamingOn turns streaming on. It requests the usage, since every whole answer has it.
// With timings_per_token each event has the number of tokens so far. That reveals tokens
// that no event contains (see localChoice.missing), and how much of max_tokens is left if
// the stream breaks.
const streamingOn = `"stream":true,"stream_options":{"include_usage":true},"timings_per_token":true`

// AsStream returns the streaming form of a body sent to path. ok is whether the stream can
// be aggregated to exactly the answer that llama-server would have given to the unchanged
// body. That was tested for the fields in streamable with build 11669; for any other field
// ok is false.
func AsStream(b request.Body, path string) (s Form, ok bool) {
	s = Form{body: b, path: path, choices: 1, chat: path == "/v1/chat/completions"}
	at, known := streamablePaths[path]
	if !known {
		return s, false
	}
	seen := map[string]bool{}
	object := gjson.Parse(b.Text())
	object.ForEach(func(key, value gjson.Result) bool {
		name := key.Str
		// llama-server reads the last value of a duplicate field.
		fits := at.fields[name]
		if ok = fits != nil && !seen[name] && fits(value, s.chat); !ok {
			return false
		}
		seen[name] = true
		switch name {
		case "stream":
			s.from, s.to, s.replacement = key.Index, value.Index+len(value.Raw), at.asked
		case "n":
			if value.Type == gjson.Number {
				s.choices = int(value.Int())
			}
		case "stop", "stop_sequences":
			s.stops = wire.HasContent(value)
		case "logprobs":
			s.logprobs = wire.HasContent(value) && value.Raw != "0"
		}
		return true
	})
	// A stream contains the logprobs of the stop string, a whole answer does not.
	if ok = ok && seen[at.needed] && !(s.logprobs && s.stops); ok && s.replacement == "" {
		s.from = object.Index + bytes.IndexByte(b.Raw[object.Index:], '{') + 1
		s.to, s.replacement = s.from, at.asked+","
	}
	return s, ok
}

// streamablePaths are the paths whose streams can be aggregated: the tested fields, the
// required one, and what turns streaming on.
var streamablePaths = map[string]struct {
	fields        map[string]func(v gjson.Result, chat bool) bool
	needed, asked string
}{
	"/v1/chat/completions": {streamable, "messages", streamingOn},
	"/v1/completions":      {streamable, "prompt", streamingOn},
	"/v1/messages":         {streamableMessages, "messages", `"stream":true`},
	"/v1/responses":        {streamableResponses, "input", `"stream":true`},
}

// WithModel returns the body with another model name in it.
func (s Form) WithModel(model string) request.Payload {
	b := s.body
	asked := []byte(s.before + s.replacement + s.after)
	e, changed := b.EditModel(model)
	if !changed {
		e.From, e.To = s.to, s.to // the body's own name stays
	}
	name := []byte(e.Text)
	if e.From < s.from {
		return b.Payload(b.Raw[:e.From], name, b.Raw[e.To:s.from], asked, b.Raw[s.to:])
	}
	return b.Payload(b.Raw[:s.from], asked, b.Raw[s.to:e.From], name, b.Raw[e.To:])
}

// streamable are the fields of a body for which a stream and a whole answer were tested to
// have the same content, each with a check of its value. Not among them are:
//
//   - stream_options, timings_per_token, return_progress, sse_ping_interval: they change
//     the stream, which the client did not ask for;
//   - verbose, return_tokens, response_fields, n_probs, post_sampling_probs: they change
//     streams and whole answers differently;
//   - top_logprobs, and logprobs in a chat: a chat's stream has no event for a token
//     without text, such as the last one, and so lacks its logprob;
//   - echo, add_generation_prompt, continue_final_message: they decide how much of a final
//     assistant message an answer repeats;
//   - everything that was not tested.
var streamable = map[string]func(v gjson.Result, chat bool) bool{
	"model":  anyValue,
	"stream": func(v gjson.Result, _ bool) bool { return v.Type == gjson.False || v.Type == gjson.Null },

	// The input.
	"messages":             func(v gjson.Result, chat bool) bool { return chat && awaitsAnswer(v) },
	"tools":                inChats,
	"tool_choice":          inChats,
	"parallel_tool_calls":  inChats,
	"response_format":      inChats,
	"chat_template_kwargs": inChats,
	"reasoning_effort":     inChats,
	"reasoning_format":     func(v gjson.Result, chat bool) bool { return chat && isSameReasoning(v) },
	"prompt":               func(v gjson.Result, chat bool) bool { return !chat && isSinglePrompt(v) },
	"grammar":              anyValue,
	"json_schema":          anyValue,

	// The length of the answer.
	"max_tokens":            anyValue,
	"max_completion_tokens": anyValue,
	"n_predict":             anyValue,
	"stop":                  anyValue,
	"ignore_eos":            anyValue,
	"n":                     func(v gjson.Result, _ bool) bool { return v.Type == gjson.Null || isValidChoiceCount(v) },
	"logprobs": func(v gjson.Result, chat bool) bool {
		return v.Type == gjson.Null || v.Type == gjson.False || !chat && v.Type == gjson.Number
	},

	// Sampling.
	"temperature": anyValue, "top_p": anyValue, "top_k": anyValue, "min_p": anyValue, "typical_p": anyValue, "top_n_sigma": anyValue,
	"seed": anyValue, "logit_bias": anyValue, "samplers": anyValue, "min_keep": anyValue,
	"presence_penalty": anyValue, "frequency_penalty": anyValue, "repeat_penalty": anyValue, "repeat_last_n": anyValue,
	"dynatemp_range": anyValue, "dynatemp_exponent": anyValue, "xtc_probability": anyValue, "xtc_threshold": anyValue,
	"mirostat": anyValue, "mirostat_tau": anyValue, "mirostat_eta": anyValue,
	"dry_multiplier": anyValue, "dry_base": anyValue, "dry_allowed_length": anyValue, "dry_penalty_last_n": anyValue, "dry_sequence_breakers": anyValue,
	"cache_prompt": anyValue,

	// Fields that OpenAI's clients send, and llama-server ignores.
	"user": anyValue, "metadata": anyValue, "store": anyValue, "service_tier": anyValue, "safety_identifier": anyValue, "prompt_cache_key": anyValue,
}

func anyValue(gjson.Result, bool) bool { return true }

func inChats(_ gjson.Result, chat bool) bool { return chat }

// awaitsAnswer reports whether the last message is to be answered. An assistant message is
// continued instead, and a whole answer repeats it.
func awaitsAnswer(messages gjson.Result) bool {
	if !messages.IsArray() {
		return false
	}
	var last gjson.Result
	messages.ForEach(func(_, message gjson.Result) bool { last = message; return true })
	known := false
	last.ForEach(func(key, value gjson.Result) bool {
		if key.Str == "role" {
			switch value.String() {
			case "user", "system", "developer", "tool":
				known = true
			default:
				known = false
			}
		}
		return key.Str != "role" || known
	})
	return known
}

// isSameReasoning reports whether a reasoning_format puts the reasoning into the same field of
// streams and whole answers. deepseek-legacy does not.
func isSameReasoning(format gjson.Result) bool {
	switch format.Type {
	case gjson.Null:
		return true
	case gjson.String:
		return format.Str == "none" || format.Str == "auto" || format.Str == "deepseek"
	default:
		return false
	}
}

// isSinglePrompt reports whether a prompt is a single one. Each of several prompts has its own
// choice.
func isSinglePrompt(prompt gjson.Result) bool {
	if prompt.Type == gjson.String {
		return true
	}
	texts, tokens, others := 0, 0, 0
	if prompt.IsArray() {
		prompt.ForEach(func(_, part gjson.Result) bool {
			switch part.Type {
			case gjson.String:
				texts++
			case gjson.Number:
				tokens++
			default:
				others++
			}
			return others == 0
		})
	}
	return others == 0 && (texts == 1 && tokens == 0 || texts == 0 && tokens > 0)
}

// isValidChoiceCount reports whether a number of choices is valid. llama-server rejects more choices
// than it has slots.
func isValidChoiceCount(n gjson.Result) bool {
	i, err := strconv.Atoi(n.Raw)
	return err == nil && 1 <= i && i <= MaxChoices
}

// MaxChoices is how many choices an aggregator supports.
const MaxChoices = 64
