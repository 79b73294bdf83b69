package aggregate

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// localChoice is one choice of an answer that is put together. Its texts are the
// insides of JSON strings, as they came.
type localChoice struct {
	text      strings.Builder // content, or a completion's text
	reasoning strings.Builder
	logprobs  strings.Builder // elements of an array
	calls     []toolCall
	finish    string // finish_reason, as JSON; "" before it

	spent   int64  // tokens, as the last event told
	shown   int64  // of them those up to the last one that an event carried something of
	visible bool   // an event carried something since
	closed  bool   // its usage has come
	timings string // of the last token, as JSON
}

type toolCall struct {
	id, name  string // as JSON
	arguments strings.Builder
}

// takeChoice takes an event's only choice.
func (a *formAggregator) takeChoice(ch chunk) (*localChoice, error) {
	index := ch.choice.Get("index")
	i, err := strconv.Atoi(index.Raw)
	if err != nil || i < 0 || i >= len(a.choices) {
		return nil, fmt.Errorf("%w: an event is of choice %s", ErrUnknownFormat, wire.Shorten(index.Raw))
	}
	c := &a.choices[i]
	if c.finish != "" {
		return nil, fmt.Errorf("%w: choice %d goes on after its end", ErrUnknownFormat, i)
	}
	unknown, had := "", c.logprobs.Len()
	ch.choice.ForEach(func(key, value gjson.Result) bool {
		known := a.takeField(c, key.Str, value)
		if !known {
			unknown = key.Raw // never the value: it may be the answer
		}
		return known
	})
	switch {
	case unknown != "":
		return nil, fmt.Errorf("%w: a choice has the unknown %s", ErrUnknownFormat, wire.Shorten(unknown))
	case a.size > MaxBytes:
		return nil, ErrTooLong
	case a.streamed.logprobs && c.finish == "" && c.logprobs.Len() == had:
		// Speculative decoding: a whole answer has something for each token.
		return nil, fmt.Errorf("%w: a token has no logprobs", ErrNotSame)
	}
	return c, nil
}

// takeField takes a field of an event's choice.
func (a *formAggregator) takeField(c *localChoice, key string, value gjson.Result) (known bool) {
	switch key {
	case "index":
		known = true
	case "finish_reason":
		if known = value.Type == gjson.Null || value.Type == gjson.String; known && value.Str != "" {
			a.keep(&c.finish, value.Raw)
			a.last = c
		}
	case "text":
		// llama-server has one event for each token that completes a character, even
		// without a text.
		if known = !a.streamed.chat && value.Type == gjson.String; known {
			c.visible = value.Str != ""
			a.append(&c.text, value)
		}
	case "logprobs":
		known = !a.streamed.chat && a.takeLogprobs(c, value)
	case "delta":
		known = a.streamed.chat && a.takeDelta(c, value)
	}
	return known
}

// takeDelta takes what a chat's event adds to its message.
func (a *formAggregator) takeDelta(c *localChoice, delta gjson.Result) (known bool) {
	known = delta.IsObject()
	delta.ForEach(func(key, value gjson.Result) bool {
		isText := value.Type == gjson.String
		switch key.Str {
		case "role":
			known = value.Str == "assistant"
		case "content":
			known = isText || value.Type == gjson.Null
			c.visible = c.visible || value.Str != ""
			a.append(&c.text, value)
		case "reasoning_content":
			known = isText
			c.visible = c.visible || value.Str != ""
			a.append(&c.reasoning, value)
		case "tool_calls":
			known = value.IsArray()
			c.visible = true
			value.ForEach(func(_, call gjson.Result) bool {
				known = known && a.takeCall(c, call)
				return known
			})
		default:
			known = false
		}
		return known
	})
	return known
}

// maxCalls bounds the tool calls of a choice.
const maxCalls = 1024

// takeCall takes a part of a tool call. The first has its id and its name.
func (a *formAggregator) takeCall(c *localChoice, part gjson.Result) (known bool) {
	i, err := strconv.Atoi(part.Get("index").Raw)
	if err != nil || i < 0 || i > len(c.calls) || i >= maxCalls {
		return false
	}
	if i == len(c.calls) {
		c.calls = append(c.calls, toolCall{})
		a.size += 64
	}
	call := &c.calls[i]
	once := func(where *string, value gjson.Result) bool {
		if value.Type != gjson.String || *where != "" {
			return false
		}
		a.keep(where, value.Raw)
		return true
	}
	known = part.IsObject()
	part.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "index":
		case "type":
			known = value.Str == "function"
		case "id":
			known = once(&call.id, value)
		case "function":
			known = value.IsObject()
			value.ForEach(func(key, value gjson.Result) bool {
				switch key.Str {
				case "name":
					known = known && once(&call.name, value)
				case "arguments":
					known = known && value.Type == gjson.String
					a.append(&call.arguments, value)
				default:
					known = false
				}
				return known
			})
		default:
			known = false
		}
		return known
	})
	return known
}

func (a *formAggregator) takeLogprobs(c *localChoice, value gjson.Result) (known bool) {
	if value.Type == gjson.Null {
		return true
	}
	value.ForEach(func(key, list gjson.Result) bool {
		if known = key.Str == "content" && list.IsArray(); !known {
			return false
		}
		list.ForEach(func(_, token gjson.Result) bool {
			if c.logprobs.Len() > 0 {
				c.logprobs.WriteByte(',')
			}
			c.logprobs.WriteString(token.Raw)
			a.size += len(token.Raw) + 1
			return true
		})
		return true
	})
	return known
}

// append adds a string to a text, escaped as it is: half a surrogate pair has its
// other half in the next event.
func (a *formAggregator) append(text *strings.Builder, value gjson.Result) {
	if value.Type == gjson.String {
		text.WriteString(value.Raw[1 : len(value.Raw)-1])
		a.size += len(value.Raw)
	}
}

// count takes the timings of an event, which are those of its token. A token of
// which a chat has several events has them on the last one.
func (c *localChoice) count(timings gjson.Result) {
	tokens := wire.Count(timings.Get("predicted_n"))
	if tokens == nil || c.finish != "" {
		return
	}
	c.spent, c.timings = *tokens, timings.Raw
	if c.visible {
		c.shown = *tokens
	}
	c.visible = false
}

// missing says what a whole answer of that many tokens would have had and the
// stream has not, "" if nothing. A stream keeps back what may become a stop
// string and the first bytes of a character. When the answer ends there, a whole
// one has them, and a stream has not.
func (c *localChoice) missing(tokens int64, s Form) string {
	cut := c.finish == `"length"`
	switch {
	case s.chat && c.text.Len() == 0 && c.reasoning.Len() == 0 && len(c.calls) == 0 && (tokens > 1 || cut || s.stops):
		// A message of nothing but tags is given with its tags, and one token may have
		// some text before a stop string. Otherwise one token that is no text and no cut
		// is the end itself.
		return "it has tokens but no text"
	case s.chat && s.stops && cut && c.shown != tokens:
		return "it ends in what may be a stop string"
	case c.spent != tokens && (!s.chat || cut && len(c.calls) == 0):
		return "it ends within a character"
	case !s.chat && cut && c.shown != tokens:
		return "it ends in what may be a stop string"
	}
	return ""
}

func (c *localChoice) appendChat(out []byte, index int) []byte {
	out = append(append(out, `{"finish_reason":`...), c.finish...)
	out = strconv.AppendInt(append(out, `,"index":`...), int64(index), 10)
	out = append(append(out, `,"message":{"role":"assistant","content":"`...), c.text.String()...)
	out = append(out, '"')
	if c.reasoning.Len() > 0 {
		out = append(append(out, `,"reasoning_content":"`...), c.reasoning.String()...)
		out = append(out, '"')
	}
	for i := range c.calls {
		call, open := &c.calls[i], `,`
		if i == 0 {
			open = `,"tool_calls":[`
		}
		out = append(append(append(out, open...), `{"type":"function","function":{"name":`...), call.name...)
		out = append(append(out, `,"arguments":"`...), call.arguments.String()...)
		out = append(append(append(out, `"},"id":`...), call.id...), '}')
	}
	if len(c.calls) > 0 {
		out = append(out, ']')
	}
	return append(out, "}}"...)
}

func (c *localChoice) appendText(out []byte, index int) []byte {
	out = append(append(out, `{"text":"`...), c.text.String()...)
	out = strconv.AppendInt(append(out, `","index":`...), int64(index), 10)
	if c.logprobs.Len() > 0 {
		out = append(append(out, `,"logprobs":{"content":[`...), c.logprobs.String()...)
		out = append(out, `]}`...)
	} else {
		out = append(out, `,"logprobs":null`...)
	}
	return append(append(append(out, `,"finish_reason":`...), c.finish...), '}')
}
