package aggregate

import (
	"bytes"
	"io"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// A stream has its usage only for a client that asks for it
// (stream_options.include_usage), and the ledger needs it. So llmsup asks local
// servers and paid upstreams for it where the client did not, and removes the event
// that it adds.

// usageRequested is what turns the usage on.
const usageRequested = `"include_usage":true`

// WithUsage returns the form of a streamed body that asks for its usage; false
// where it does already, or where that can't be told.
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
		word := string(options[m.From:m.To])
		if !s.addedFields() || word != "false" && word != "null" { // it is there twice, or asks already
			ok = false
			return
		}
		s.from, s.to = b.Options.From+m.KeyFrom, b.Options.From+m.To
	})
	if s.addedFields() && fields > 0 {
		s.after = `,`
	}
	return s, ok
}

// OnlyUsage says whether the form asks for no more than the usage of a stream that the
// client asked for.
func (s *Form) OnlyUsage() bool { return s.replacement == usageRequested }

// addedFields says that nothing of the body makes way.
func (s *Form) addedFields() bool { return s.from == s.to }

// UsageFilter removes the event that has only the usage. llama-server puts its
// timings on that event; they go back to the one before, where they would have
// been. So an event of llama-server's with a finish reason is kept back until the
// next one has come. A nil filter removes nothing.
type UsageFilter struct {
	Local  bool   // the stream is llama-server's
	finish []byte // that is kept back, with its empty line
	out    []byte // what pass returned last
}

// Pending is what is kept back.
func (f *UsageFilter) Pending() []byte {
	if f == nil {
		return nil
	}
	return f.finish
}

// Pass returns what the client is to see of an event, and of one that was kept
// back. It is valid until the next call.
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

// hasChoice says whether an event has something for the client in one of its
// choices.
func hasChoice(event gjson.Result) (has bool) {
	event.Get("choices").ForEach(func(_, choice gjson.Result) bool {
		has = wire.HasContent(choice.Get("finish_reason")) || wire.HasContent(choice.Get("logprobs")) || wire.HasText(choice)
		return !has
	})
	return has
}

// Flush writes what was kept back, for a stream that broke.
func (f *UsageFilter) Flush(w io.Writer) error {
	if f == nil || len(f.finish) == 0 {
		return nil
	}
	_, err := w.Write(f.finish)
	f.finish = f.finish[:0]
	return err
}

// withTimings returns an event with timings behind its other fields.
func withTimings(raw []byte, timings gjson.Result) []byte {
	at := bytes.LastIndexByte(raw, '}')
	if !timings.IsObject() || at < 0 {
		return raw
	}
	// Deeper inside they may be there as well: in what "verbose" adds.
	if wire.MightContain(raw, `"timings"`) && gjson.GetBytes(raw[bytes.IndexByte(raw, '{'):], "timings").Exists() {
		return raw
	}
	out := append([]byte{}, raw[:at]...)
	out = append(append(out, `,"timings":`...), timings.Raw...)
	return append(out, raw[at:]...)
}
