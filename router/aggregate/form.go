package aggregate

import (
	"bytes"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Form is a non-stream body in the form that makes llama-server stream its
// answer, which an aggregator puts together again.
// So the first token, not the last one, says that the server has answered.
type Form struct {
	body        request.Body
	path        string
	chat        bool // of a chat completion
	choices     int  // that the client asked for
	stops       bool // it gave stop strings
	logprobs    bool // it asked for them
	from, to    int  // body.raw[from:to] makes way for asked
	replacement string

	before, after string // around asked
}

// streamingOn turns streaming on. The usage comes in every whole answer. With
// timings_per_token each event tells how many tokens were spent, which shows
// tokens that no event carries (see assembled.missing), and what is left of
// max_tokens should the stream break.
const streamingOn = `"stream":true,"stream_options":{"include_usage":true},"timings_per_token":true`

// AsStream returns the form that streams of a body sent to path, and whether the
// stream can be put together to what llama-server would have answered to the
// body as it is. That was tested for the fields of streamable on build 11669;
// with any other field, and what is said there, it is false.
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
		// Of a field that is there twice llama-server reads the last one.
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
	// A whole answer leaves the logprobs of the stop string out, a stream doesn't.
	if ok = ok && seen[at.needed] && !(s.logprobs && s.stops); ok && s.replacement == "" {
		s.from = object.Index + bytes.IndexByte(b.Raw[object.Index:], '{') + 1
		s.to, s.replacement = s.from, at.asked+","
	}
	return s, ok
}

// streamablePaths are the paths whose streams can be put together: the fields that
// were tried, the one that has to be there, and what turns streaming on.
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
	var name []byte
	if b.To == 0 || model == b.Model {
		b.From, b.To = s.to, s.to // the body's own name stays
	} else {
		name = []byte(wire.Quote(model))
	}
	if b.From < s.from {
		return b.Payload(b.Raw[:b.From], name, b.Raw[b.To:s.from], asked, b.Raw[s.to:])
	}
	return b.Payload(b.Raw[:s.from], asked, b.Raw[s.to:b.From], name, b.Raw[b.To:])
}

// streamable are the fields of a body with which a stream and a whole answer
// were seen to say the same, each with what its value has to be. Not among them:
//
//   - stream_options, timings_per_token, return_progress, sse_ping_interval:
//     they speak of the stream that the client did not ask for;
//   - verbose, return_tokens, response_fields, n_probs, post_sampling_probs:
//     they add to an answer, or take from it, in one form other than in the other;
//   - top_logprobs, and logprobs in a chat: a chat's stream has no event for a
//     token without text, such as the last one, and leaves its logprob out;
//   - echo, add_generation_prompt, continue_final_message: they decide how much
//     of a final message of the assistant an answer repeats;
//   - everything that nobody has tried.
var streamable = map[string]func(v gjson.Result, chat bool) bool{
	"model":  anyValue,
	"stream": func(v gjson.Result, _ bool) bool { return v.Type == gjson.False || v.Type == gjson.Null },

	// What to answer to.
	"messages":             func(v gjson.Result, chat bool) bool { return chat && awaitsAnswer(v) },
	"tools":                inChats,
	"tool_choice":          inChats,
	"parallel_tool_calls":  inChats,
	"response_format":      inChats,
	"chat_template_kwargs": inChats,
	"reasoning_effort":     inChats,
	"reasoning_format":     func(v gjson.Result, chat bool) bool { return chat && sameReasoning(v) },
	"prompt":               func(v gjson.Result, chat bool) bool { return !chat && singlePrompt(v) },
	"grammar":              anyValue,
	"json_schema":          anyValue,

	// How much of it.
	"max_tokens":            anyValue,
	"max_completion_tokens": anyValue,
	"n_predict":             anyValue,
	"stop":                  anyValue,
	"ignore_eos":            anyValue,
	"n":                     func(v gjson.Result, _ bool) bool { return v.Type == gjson.Null || fewChoices(v) },
	"logprobs": func(v gjson.Result, chat bool) bool {
		return v.Type == gjson.Null || v.Type == gjson.False || !chat && v.Type == gjson.Number
	},

	// How to choose tokens.
	"temperature": anyValue, "top_p": anyValue, "top_k": anyValue, "min_p": anyValue, "typical_p": anyValue, "top_n_sigma": anyValue,
	"seed": anyValue, "logit_bias": anyValue, "samplers": anyValue, "min_keep": anyValue,
	"presence_penalty": anyValue, "frequency_penalty": anyValue, "repeat_penalty": anyValue, "repeat_last_n": anyValue,
	"dynatemp_range": anyValue, "dynatemp_exponent": anyValue, "xtc_probability": anyValue, "xtc_threshold": anyValue,
	"mirostat": anyValue, "mirostat_tau": anyValue, "mirostat_eta": anyValue,
	"dry_multiplier": anyValue, "dry_base": anyValue, "dry_allowed_length": anyValue, "dry_penalty_last_n": anyValue, "dry_sequence_breakers": anyValue,
	"cache_prompt": anyValue,

	// What OpenAI's clients send, and llama-server passes over.
	"user": anyValue, "metadata": anyValue, "store": anyValue, "service_tier": anyValue, "safety_identifier": anyValue, "prompt_cache_key": anyValue,
}

func anyValue(gjson.Result, bool) bool { return true }

func inChats(_ gjson.Result, chat bool) bool { return chat }

// awaitsAnswer says whether messages end with one that is to be answered. One
// of the assistant is continued instead, and a whole answer repeats it.
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

// sameReasoning leaves out deepseek-legacy, which puts the reasoning elsewhere
// in a stream than in a whole answer.
func sameReasoning(format gjson.Result) bool {
	switch format.Type {
	case gjson.Null:
		return true
	case gjson.String:
		return format.Str == "none" || format.Str == "auto" || format.Str == "deepseek"
	default:
		return false
	}
}

// singlePrompt leaves out several prompts at once: each has a choice of its own.
func singlePrompt(prompt gjson.Result) bool {
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

// fewChoices says whether a number of choices is a plain one. llama-server refuses more
// than it has slots.
func fewChoices(n gjson.Result) bool {
	i, err := strconv.Atoi(n.Raw)
	return err == nil && 1 <= i && i <= MaxChoices
}

// MaxChoices bounds what an assembler sets up for a call.
const MaxChoices = 64
