package aggregate

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// chunkAggregator is the aggregator of chat completions and completions.
// Source: OpenAI's API reference, "The chat completion chunk object".
type chunkAggregator struct {
	noPartial
	chat    bool
	header  merged   // the fields outside the choices: the first value of id, created, model, ...
	choices []merged // by index; those of a chat have "delta"
	size    int
	ended   bool
}

// latest are the fields whose last value counts.
var latest = map[string]bool{"usage": true, "timings": true, "service_tier": true, "system_fingerprint": true}

func (a *chunkAggregator) Add(e wire.Event) error {
	if wire.IsDone(e.Data) {
		a.ended = true
		return nil
	}
	object, ok, err := eventJSON(e, &a.size)
	if !ok {
		return err
	}
	if failed := (wire.Choices{}).Failure(wire.ChoiceSummary{Err: object.Get("error"), Choices: object.Get("choices")}); failed != "" {
		return &UpstreamError{failed}
	}
	object.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "choices":
			err = a.addChoices(value)
			return err == nil
		case "obfuscation": // pads OpenAI's events
			return true
		}
		// Outside the choices every event has the same values, or later figures.
		if f := a.header.field(key, &a.size); value.Type != gjson.Null && (f.isUnset() || latest[key.Str]) {
			f.raw = string([]byte(value.Raw))
		}
		if a.size > MaxBytes {
			err = ErrTooLong
		}
		return err == nil
	})
	return err
}

func (a *chunkAggregator) addChoices(list gjson.Result) (err error) {
	list.ForEach(func(_, choice gjson.Result) bool {
		i := int(choice.Get("index").Int())
		if i < 0 || i >= MaxChoices {
			err = fmt.Errorf("%w: it has a choice %d", ErrUnmergeable, i)
			return false
		}
		for len(a.choices) <= i {
			a.choices = append(a.choices, merged{kind: '{'})
		}
		err = a.choices[i].addFields(choice, &a.size)
		return err == nil
	})
	return err
}

func (a *chunkAggregator) Done() bool { return a.ended }

// complete reports whether every choice has its finish reason.
func (a *chunkAggregator) complete() bool {
	for i := range a.choices {
		if f := a.choices[i].fields["finish_reason"]; f == nil || gjson.Parse(f.raw).Str == "" {
			return false
		}
	}
	return len(a.choices) > 0
}

// ResultAtLimit returns the answer of a stream without an end mark if every choice has a
// finish reason.
func (a *chunkAggregator) ResultAtLimit() (whole []byte, ok bool) {
	if !a.complete() {
		return nil, false
	}
	a.ended = true
	whole, err := a.Result()
	return whole, err == nil
}

func (a *chunkAggregator) Result() ([]byte, error) {
	if !a.ended {
		return nil, ErrTruncated
	}
	if !a.complete() {
		return nil, fmt.Errorf("%w: a choice has no finish_reason", ErrUnmergeable)
	}
	out := append(make([]byte, 0, a.size), '{')
	for _, key := range a.header.keys {
		value := a.header.fields[wire.Unquote(key)].raw
		if wire.Unquote(key) == "object" && a.chat {
			value = `"chat.completion"`
		}
		out = append(append(append(append(out, key...), ':'), cmp.Or(value, "null")...), ',')
	}
	out = append(out, `"choices":[`...)
	for i := range a.choices {
		if i > 0 {
			out = append(out, ',')
		}
		out = a.appendChoice(out, i)
	}
	return append(out, `]}`...), nil
}

func (a *chunkAggregator) appendChoice(out []byte, i int) []byte {
	c := &a.choices[i]
	out = append(append(out, `{"index":`...), strconv.Itoa(i)...)
	for _, key := range c.keys {
		switch name := wire.Unquote(key); name {
		case "index":
		case "delta":
			if a.chat {
				out = appendMessage(append(out, `,"message":`...), c.fields[name])
			}
		default:
			out = c.fields[name].append(append(append(append(out, ','), key...), ':'), "")
		}
	}
	return append(out, '}')
}

// appendMessage appends a merged delta as a message. Tool calls of a message have no
// index.
func appendMessage(out []byte, delta *merged) []byte {
	out = append(out, '{')
	for _, needed := range []struct{ name, value string }{{"role", `"assistant"`}, {"content", "null"}} {
		if f := delta.fields[needed.name]; f == nil || f.isUnset() {
			out = append(append(append(append(append(out, '"'), needed.name...), `":`...), needed.value...), ',')
		}
	}
	for _, key := range delta.keys {
		name, without := wire.Unquote(key), ""
		f := delta.fields[name]
		if f.isUnset() && (name == "role" || name == "content") {
			continue
		}
		if name == "tool_calls" {
			without = "index"
		}
		out = append(f.append(append(append(out, key...), ':'), without), ',')
	}
	out[len(out)-1] = '}'
	return out
}
