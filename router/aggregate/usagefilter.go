package aggregate

import (
	"bytes"
	"io"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// A stream contains its usage only if the client asks for it
// (stream_options.include_usage), but the ledger needs it. So llmsup requests it from local
// servers and paid upstreams if the client did not, and removes the additional event.

// usageRequested requests the usage.
const usageRequested = `"include_usage":true`

// WithUsage returns the form of a streaming body that requests the usage; false if the
// body already requests it, or if that is unclear.
func WithUsage(b request.Body, path string) (s Form, ok bool) {
	if !b.Stream || path != "/v1/chat/completions" && path != "/v1/completions" || b.DuplicateOptions || b.UsageRequested {
		return s, false
	}
	s = Form{body: b, replacement: usageRequested}
	if b.Options == (request.Span{}) {
		at := bytes.IndexByte(b.Raw, '{') + 1
		s.from, s.to = at, at
		s.before, s.after = `"stream_options":{`, `},`
		return s, true
	}
	options := b.Raw[b.Options.From:b.Options.To]
	if string(options) == "null" {
		s.from, s.to = b.Options.From, b.Options.To
		s.before, s.after = `{`, `}`
		return s, true
	}
	if options[0] != '{' {
		return s, false
	}
	at, fields := b.Options.From+1, 0
	s.from, s.to = at, at
	ok = true
	wire.Scan(options, func(m wire.Member) {
		fields++
		if wire.Unquote(string(options[m.KeyFrom:m.KeyTo])) != "include_usage" {
			return
		}
		value := string(options[m.From:m.To])
		if !s.isInsertion() || value != "false" && value != "null" { // the field is there twice, or already true
			ok = false
			return
		}
		s.from, s.to = b.Options.From+m.KeyFrom, b.Options.From+m.To
	})
	if s.isInsertion() && fields > 0 {
		s.after = `,`
	}
	return s, ok
}

// OnlyUsage reports whether the form requests only the usage, of a stream that the client
// asked for.
func (s *Form) OnlyUsage() bool { return s.replacement == usageRequested }

// isInsertion reports whether the form inserts text and replaces none.
func (s *Form) isInsertion() bool { return s.from == s.to }

// UsageFilter removes the event that has only the usage. llama-server puts its timings into
// that event; the filter moves them to the event before, where they are without the usage.
// So it withholds llama-server's event with a finish reason until the next event. A nil
// filter removes nothing.
type UsageFilter struct {
	Local  bool   // the stream is llama-server's
	finish []byte // the withheld event, with its empty line
	out    []byte // the last result of Pass
}

// Pending returns the withheld event.
func (f *UsageFilter) Pending() []byte {
	if f == nil {
		return nil
	}
	return f.finish
}

// Pass returns the events to send to the client after an event was received, a withheld
// event included. The result is valid until the next call.
func (f *UsageFilter) Pass(e wire.Event) []byte {
	if f == nil {
		return e.Raw
	}
	if len(e.Data) == 0 { // a ping
		return e.Raw
	}
	if wire.MightContain(e.Data, `"usage"`) {
		object := gjson.ParseBytes(e.Data)
		if object.Get("usage").IsObject() && !hasChoice(object) {
			f.out = append(f.out[:0], withTimings(f.finish, object.Get("timings"))...)
			f.finish = f.finish[:0]
			return f.out
		}
	}
	f.out = append(f.out[:0], f.finish...)
	f.finish = f.finish[:0]
	if f.Local && wire.MightContain(e.Data, `"finish_reason":"`) {
		f.finish = append(f.finish, e.Raw...)
		return f.out
	}
	f.out = append(f.out, e.Raw...)
	return f.out
}

// hasChoice reports whether an event has content for the client in one of its choices.
func hasChoice(event gjson.Result) (has bool) {
	event.Get("choices").ForEach(func(_, choice gjson.Result) bool {
		has = wire.HasContent(choice.Get("finish_reason")) || wire.HasContent(choice.Get("logprobs")) || wire.HasText(choice)
		return !has
	})
	return has
}

// Flush writes the withheld event of a stream that broke.
func (f *UsageFilter) Flush(w io.Writer) error {
	if f == nil || len(f.finish) == 0 {
		return nil
	}
	_, err := w.Write(f.finish)
	f.finish = f.finish[:0]
	return err
}

// withTimings returns an event with timings after its other fields.
func withTimings(raw []byte, timings gjson.Result) []byte {
	at := bytes.LastIndexByte(raw, '}')
	if !timings.IsObject() || at < 0 {
		return raw
	}
	// Only top-level timings count: "verbose" adds nested ones.
	if wire.MightContain(raw, `"timings"`) && gjson.GetBytes(raw[bytes.IndexByte(raw, '{'):], "timings").Exists() {
		return raw
	}
	out := append([]byte{}, raw[:at]...)
	out = append(append(out, `,"timings":`...), timings.Raw...)
	return append(out, raw[at:]...)
}
