package aggregate

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// responseAggregator is the aggregator of responses. The last event contains the whole
// answer, which must agree with the other events.
// Source: OpenAI's API reference, "Streaming events" of responses.
type responseAggregator struct {
	noPartial
	text   strings.Builder // of the deltas, escaped: a surrogate pair may be split between two of them
	deltas int64           // number of deltas with text
	items  []string        // the output items that are done, as JSON
	size   int
	final  string // the whole answer, as JSON; "" = not received yet
}

func (a *responseAggregator) Add(e wire.Event) error {
	if wire.IsDone(e.Data) { // OpenRouter adds it
		return nil
	}
	object, ok, err := eventJSON(e, &a.size)
	if !ok {
		return err
	}
	kind := object.Get("type").Str
	switch {
	case kind == "error", kind == "response.failed", wire.ErrorMessage(object) != "":
		message := cmp.Or(wire.ErrorMessage(object), cmp.Or(wire.ErrorMessage(object.Get("response")), object.Get("message").Str))
		return &UpstreamError{cmp.Or(message, "an error without a message")}
	case kind == "response.completed", kind == "response.incomplete":
		if a.final = string([]byte(object.Get("response").Raw)); a.final == "" {
			return fmt.Errorf("%w: the last event has no answer", ErrUnmergeable)
		}
	case kind == "response.output_text.delta":
		if delta := object.Get("delta"); delta.Type == gjson.String && delta.Str != "" {
			a.text.WriteString(delta.Raw[1 : len(delta.Raw)-1])
			a.deltas++
		}
	case kind == "response.output_item.done":
		a.items = append(a.items, string([]byte(object.Get("item").Raw)))
	}
	return nil
}

func (a *responseAggregator) Done() bool { return a.final != "" }

func (a *responseAggregator) ResultAtLimit() (whole []byte, ok bool) {
	whole, err := a.Result()
	return whole, err == nil
}

func (a *responseAggregator) Result() ([]byte, error) {
	if a.final == "" {
		return nil, ErrTruncated
	}
	answer := gjson.Parse(a.final)
	output := answer.Get("output")
	items, text := 0, strings.Builder{}
	output.ForEach(func(_, item gjson.Result) bool {
		items++
		item.Get("content").ForEach(func(_, part gjson.Result) bool {
			if part.Get("type").Str == "output_text" {
				text.WriteString(part.Get("text").Str)
			}
			return true
		})
		return true
	})
	switch {
	case items == 0 && len(a.items) > 0 && output.IsArray(): // some upstreams omit the output there
		return []byte(wire.Apply(a.final, []wire.Edit{{From: output.Index, To: output.Index + len(output.Raw), Text: "[" + strings.Join(a.items, ",") + "]"}})), nil
	case len(a.items) > items || !strings.HasPrefix(text.String(), unescape(a.text.String())):
		return nil, fmt.Errorf("%w: the final event contradicts the deltas", ErrUnmergeable)
	}
	return []byte(a.final), nil
}
