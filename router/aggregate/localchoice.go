package aggregate

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// localChoice is one choice of an aggregated answer. Its texts are the insides of JSON
// strings, as received.
type localChoice struct {
	text      strings.Builder // content, or a completion's text
	reasoning strings.Builder
	logprobs  strings.Builder // elements of an array
	calls     []toolCall
	finish    string // finish_reason, as JSON; "" before it

	spent   int64  // tokens, as reported by the last event
	shown   int64  // tokens up to the last one whose event had content
	visible bool   // an event since the last count had content
	closed  bool   // its usage was received
	timings string // of the last token, as JSON
}

type toolCall struct {
	id, name  string // as JSON
	arguments strings.Builder
}

// addChoice adds the only choice of an event.
func (a *formAggregator) addChoice(ch chunk) (*localChoice, error) {
	index := ch.choice.Get("index")
	i, err := strconv.Atoi(index.Raw)
	if err != nil || i < 0 || i >= len(a.choices) {
		return nil, fmt.Errorf("%w: an event has the choice %s", ErrUnknownFormat, wire.Shorten(index.Raw))
	}
	c := &a.choices[i]
	if c.finish != "" {
		return nil, fmt.Errorf("%w: choice %d continues after its finish reason", ErrUnknownFormat, i)
	}
	unknown, had := "", c.logprobs.Len()
	ch.choice.ForEach(func(key, value gjson.Result) bool {
		known := a.addField(c, key.Str, value)
		if !known {
			unknown = key.Raw // never the value: it may be a part of the answer
		}
		return known
	})
	switch {
	case unknown != "":
		return nil, fmt.Errorf("%w: a choice has the unknown %s", ErrUnknownFormat, wire.Shorten(unknown))
	case a.size > MaxBytes:
		return nil, ErrTooLong
	case a.form.logprobs && c.finish == "" && c.logprobs.Len() == had:
		// With speculative decoding; a whole answer has logprobs for each token.
		return nil, fmt.Errorf("%w: a token has no logprobs", ErrNotSame)
	}
	return c, nil
}

// addField adds a field of an event's choice.
func (a *formAggregator) addField(c *localChoice, key string, value gjson.Result) (known bool) {
	switch key {
	case "index":
		known = true
	case "finish_reason":
		if known = value.Type == gjson.Null || value.Type == gjson.String; known && value.Str != "" {
			a.setOnce(&c.finish, value.Raw)
			a.last = c
		}
	case "text":
		// llama-server has one event for each token that completes a character, even
		// without a text.
		if known = !a.form.chat && value.Type == gjson.String; known {
			c.visible = value.Str != ""
			a.append(&c.text, value)
		}
	case "logprobs":
		known = !a.form.chat && a.addLogprobs(c, value)
	case "delta":
		known = a.form.chat && a.addDelta(c, value)
	}
	return known
}

// addDelta adds the delta of a chat's event to the message.
func (a *formAggregator) addDelta(c *localChoice, delta gjson.Result) (known bool) {
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
				known = known && a.addToolCall(c, call)
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

// addToolCall adds a part of a tool call. The first part has the id and the name.
func (a *formAggregator) addToolCall(c *localChoice, part gjson.Result) (known bool) {
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
		a.setOnce(where, value.Raw)
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

func (a *formAggregator) addLogprobs(c *localChoice, value gjson.Result) (known bool) {
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

// append adds a string to a text, still escaped: a surrogate pair may be split between two
// events.
func (a *formAggregator) append(text *strings.Builder, value gjson.Result) {
	if value.Type == gjson.String {
		text.WriteString(value.Raw[1 : len(value.Raw)-1])
		a.size += len(value.Raw)
	}
}

// countTokens counts the tokens by the timings of an event. If a token has several events in
// a chat, the last one has the timings.
func (c *localChoice) countTokens(timings gjson.Result) {
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

// missing returns what the stream lacks of the whole answer of that many tokens; "" =
// nothing. A stream withholds text that may become a stop string, and the first bytes of a
// character. If the answer ends there, they are in a whole answer, and not in a stream.
func (c *localChoice) missing(tokens int64, s Form) string {
	cut := c.finish == `"length"`
	switch {
	case s.chat && c.text.Len() == 0 && c.reasoning.Len() == 0 && len(c.calls) == 0 && (tokens > 1 || cut || s.stops):
		// A whole answer of nothing but tags has these tags, and a single token may have
		// text before a stop string. Otherwise a single token without text that does not
		// reach the limit is the end token.
		return "the answer has tokens but no text"
	case s.chat && s.stops && cut && c.shown != tokens:
		return "the answer ends in a possible stop string"
	case c.spent != tokens && (!s.chat || cut && len(c.calls) == 0):
		return "the answer ends within a character"
	case !s.chat && cut && c.shown != tokens:
		return "the answer ends in a possible stop string"
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
