package aggregate

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// messageAggregator is the aggregator of Anthropic's messages.
// Source: Anthropic's API reference, "Streaming messages".
type messageAggregator struct {
	message merged   // from message_start, changed by message_delta
	blocks  []*block // the blocks of its content
	deltas  int64    // number of deltas with text
	size    int
	ended   bool
}

// errNoStart is a message without its first event.
var errNoStart = fmt.Errorf("%w: the message has no start", ErrUnmergeable)

// block is a block of content.
type block struct {
	merged
	input  bytes.Buffer // of a tool, as JSON
	closed bool
}

// blockDeltas are the types of text deltas, each with the field that it extends.
var blockDeltas = map[string]string{"text_delta": "text", "thinking_delta": "thinking"}

func (a *messageAggregator) Add(e wire.Event) error {
	if wire.IsDone(e.Data) { // some upstreams send it in place of message_stop
		a.ended = true
		return nil
	}
	object, ok, err := eventJSON(e, &a.size)
	if !ok {
		return err
	}
	kind := object.Get("type").Str
	switch {
	case string(e.Name) == "error" || kind == "error" || wire.ErrorMessage(object) != "":
		return &UpstreamError{cmp.Or(wire.ErrorMessage(object), "an error without a message")}
	case kind == "ping":
		return nil
	case a.ended || kind == "message_start" && a.message.kind != 0:
		return unexpected(kind)
	case kind != "message_start" && a.message.kind == 0:
		return errNoStart
	}
	if err := a.apply(kind, object); err != nil {
		return err
	}
	if a.size > MaxBytes {
		return ErrTooLong
	}
	return nil
}

// apply applies an event of a kind to the message.
func (a *messageAggregator) apply(kind string, object gjson.Result) error {
	switch kind {
	case "message_start":
		a.message.kind = '{'
		a.setFields(&a.message, object.Get("message"))
	case "content_block_start":
		if object.Get("index").Int() != int64(len(a.blocks)) || !object.Get("content_block").IsObject() {
			return fmt.Errorf("%w: content block out of order", ErrUnmergeable)
		}
		b := &block{}
		a.blocks = append(a.blocks, b)
		return b.add("", object.Get("content_block"), &a.size)
	case "content_block_delta":
		b := a.openBlock(object.Get("index"))
		if b == nil {
			return fmt.Errorf("%w: content block out of order", ErrUnmergeable)
		}
		return a.addDelta(b, object.Get("delta"))
	case "content_block_stop":
		b := a.openBlock(object.Get("index"))
		if b == nil {
			return fmt.Errorf("%w: content block out of order", ErrUnmergeable)
		}
		b.closed = true
	case "message_delta":
		a.setFields(&a.message, object.Get("delta"))
		if used := object.Get("usage"); used.IsObject() {
			all := a.message.field(gjson.Parse(`"usage"`), &a.size)
			all.kind = '{'
			a.setFields(all, used)
		}
	case "message_stop":
		a.ended = true
	default:
		return unexpected(kind)
	}
	return nil
}

func unexpected(event string) error {
	return fmt.Errorf("%w: unexpected event %s", ErrUnmergeable, wire.Shorten(wire.Quote(event)))
}

// openBlock returns the block of an index; nil if there is none or it has ended.
// llama-server ends all blocks at the end of the message.
func (a *messageAggregator) openBlock(index gjson.Result) *block {
	i := index.Int()
	if i < 0 || i >= int64(len(a.blocks)) || a.blocks[i].closed {
		return nil
	}
	return a.blocks[i]
}

// hasOpenBlock reports whether a block has not ended.
func (a *messageAggregator) hasOpenBlock() bool {
	return slices.ContainsFunc(a.blocks, func(b *block) bool { return !b.closed })
}

// setFields sets the fields of an object. A later value replaces an earlier one, unless it
// is null.
func (a *messageAggregator) setFields(to *merged, object gjson.Result) {
	object.ForEach(func(key, value gjson.Result) bool {
		f := to.field(key, &a.size)
		if value.Type == gjson.Null && !f.isUnset() {
			return true
		}
		if *f = (merged{}); key.Str == "usage" && value.IsObject() {
			f.kind = '{'
			a.setFields(f, value)
		} else {
			f.raw = string([]byte(value.Raw))
		}
		return a.size <= MaxBytes
	})
}

func (a *messageAggregator) addDelta(b *block, delta gjson.Result) error {
	kind := delta.Get("type").Str
	if name, ok := blockDeltas[kind]; ok {
		text := delta.Get(name)
		if wire.HasContent(text) {
			a.deltas++
		}
		return b.field(gjson.Parse(wire.Quote(name)), &a.size).add(name, text, &a.size)
	}
	switch kind {
	case "signature_delta":
		f := b.field(gjson.Parse(`"signature"`), &a.size)
		if !f.isUnset() && f.raw != `""` {
			return mismatch("signature")
		}
		f.raw = string([]byte(delta.Get("signature").Raw))
	case "input_json_delta":
		b.input.WriteString(delta.Get("partial_json").Str)
	case "citations_delta":
		f := b.field(gjson.Parse(`"citations"`), &a.size)
		f.kind, f.raw = '[', ""
		f.appendElement(delta.Get("citation"))
	default:
		return fmt.Errorf("%w: unknown delta %s", ErrUnmergeable, wire.Shorten(wire.Quote(kind)))
	}
	return nil
}

// Partial returns the beginning of a message that is a single block of text. It counts
// events as tokens.
func (a *messageAggregator) Partial() Partial {
	if len(a.blocks) != 1 {
		return Partial{HasToolCall: true}
	}
	b := a.blocks[0]
	text, kind := b.fields["text"], b.fields["type"]
	if text == nil || kind == nil || kind.raw != `"text"` || len(b.fields) > 2 {
		return Partial{HasToolCall: true}
	}
	return Partial{Text: unescape(text.text.String()), Tokens: a.deltas, Finished: b.closed}
}

// stopReason returns the message's stop_reason; "" = it has none yet.
func (a *messageAggregator) stopReason() string {
	if f := a.message.fields["stop_reason"]; f != nil {
		return gjson.Parse(f.raw).Str
	}
	return ""
}

func (a *messageAggregator) Done() bool { return a.ended }

// ResultAtLimit returns the answer of a stream without message_stop if the stop_reason was
// received.
func (a *messageAggregator) ResultAtLimit() (whole []byte, ok bool) {
	if a.stopReason() == "" || a.hasOpenBlock() {
		return nil, false
	}
	a.ended = true
	whole, err := a.Result()
	return whole, err == nil
}

func (a *messageAggregator) Result() ([]byte, error) {
	switch {
	case !a.ended:
		return nil, ErrTruncated
	case a.stopReason() == "" || a.hasOpenBlock():
		return nil, fmt.Errorf("%w: the message has no stop_reason", ErrUnmergeable)
	}
	content := append(make([]byte, 0, a.size), '[')
	for i, b := range a.blocks {
		if b.input.Len() > 0 {
			if !wire.ValidJSON(b.input.Bytes()) { // for example, of a truncated call
				return nil, fmt.Errorf("%w: the input of a tool is not JSON", ErrUnmergeable)
			}
			*b.field(gjson.Parse(`"input"`), &a.size) = merged{raw: b.input.String()}
		} else if f := b.fields["type"]; f != nil && f.raw == `"tool_use"` && b.fields["input"] == nil {
			return nil, fmt.Errorf("%w: a tool has no input", ErrUnmergeable)
		}
		if i > 0 {
			content = append(content, ',')
		}
		content = b.append(content, "")
	}
	*a.message.field(gjson.Parse(`"content"`), &a.size) = merged{raw: string(append(content, ']'))}
	return a.message.append(nil, ""), nil
}
