package resume

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Transcript is what another backend needs to continue a stream: its text so far, and
// whether the stream has anything but text.
type Transcript struct {
	Dialect      *Dialect
	Text         strings.Builder
	Tokens       int64       // events with text, of which llama-server sends one per token
	Header       EventHeader // of the stream's events
	Finish       string      // the finish reason, once it came
	TextEnded    bool        // no more text may follow
	NotResumable string      // why another backend cannot continue the stream; "" = it can

	usageSent   bool
	textContext [2][]byte // the bytes before and after the text of the last event; empty = unknown
}

// EventHeader is what all events of a stream have in common.
type EventHeader struct {
	ID      string
	Created int64
	Model   string
}

// maxTranscript is how much text is kept, in bytes.
const maxTranscript = 4 << 20

// Observe adds an event of the stream.
func (t *Transcript) Observe(data []byte) {
	if t.NotResumable != "" || len(data) == 0 || wire.IsDone(data) {
		return
	}
	if t.Text.Len() > maxTranscript {
		t.NotResumable = "it is too long"
		return
	}
	if text, ok := t.fastPath(data); ok {
		t.Text.Write(text)
		t.Tokens++
		return
	}
	event := gjson.ParseBytes(data)
	text := t.Dialect.observe(t, event)
	if text != "" {
		t.Text.WriteString(text)
		t.Tokens++
	}
	t.textContext = [2][]byte{}
	if text != "" && t.NotResumable == "" && t.Finish == "" && !event.Get("usage").Exists() {
		if value := event.Get(t.Dialect.textPath()); value.Index > 0 && bytes.HasPrefix(data[value.Index:], []byte(value.Raw)) {
			t.textContext = [2][]byte{bytes.Clone(data[:value.Index+1]), bytes.Clone(data[value.Index+len(value.Raw)-1:])}
		}
	}
}

// Add adds text of another backend that continues the stream: a token.
func (t *Transcript) Add(text string) {
	t.Text.WriteString(text)
	t.Tokens++
}

// fastPath returns the text of an event that differs from the last one only in its
// text, as nearly all events of a stream do. Such an event needs no parser.
func (t *Transcript) fastPath(data []byte) (text []byte, ok bool) {
	before, after := t.textContext[0], t.textContext[1]
	if len(before) == 0 || len(data) <= len(before)+len(after) || !bytes.HasPrefix(data, before) || !bytes.HasSuffix(data, after) {
		return nil, false
	}
	text = data[len(before) : len(data)-len(after)]
	return text, bytes.IndexByte(text, '"') < 0 && bytes.IndexByte(text, '\\') < 0
}

// UsageWith returns the usage of a stream that needs no continuation: as its events reported it,
// including tokens without text.
func (t *Transcript) UsageWith(reported wire.Usage) wire.Usage {
	u := wire.Usage{Completion: new(t.Tokens)}
	u.Merge(reported)
	return u
}

// SumUsage adds the tokens of the last part of a stream to those before it, which its prompt
// contained.
func SumUsage(before int64, last wire.Usage) wire.Usage {
	u := wire.Usage{Completion: new(before)}
	if last.Completion != nil {
		*u.Completion += *last.Completion
	}
	if last.Prompt != nil {
		u.Prompt = new(max(*last.Prompt-before, 0))
	}
	return u
}
