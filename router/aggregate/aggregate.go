package aggregate

import (
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Aggregator builds the whole answer from the events of a stream that the client did not
// ask for.
type Aggregator interface {
	// Add adds the next event. After an error only Partial may be used.
	Add(e wire.Event) error
	// Result returns the answer. Before the stream's end it returns an error.
	Result() ([]byte, error)
	// ResultAtLimit returns the answer of a stream whose end is missing, if that end is
	// known.
	ResultAtLimit() (whole []byte, ok bool)
	// Done reports whether the stream has ended.
	Done() bool
	// Partial returns the beginning of the answer, as far as it has arrived.
	Partial() Partial
}

// MaxBytes is the largest whole answer that is held before commit, in bytes. A larger one
// (embeddings of a large batch) is passed on while it arrives.
const MaxBytes = 32 << 20

// ForUpstream returns an aggregator for an upstream's streams at a path, in answer to
// non-streaming calls; nil = there is none. It accepts what any upstream may send, and
// rejects streams for which it would have to guess.
func ForUpstream(path string) Aggregator {
	switch path {
	case "/v1/chat/completions", "/v1/fim/completions":
		return &chunkAggregator{chat: true}
	case "/v1/completions":
		return &chunkAggregator{}
	case "/v1/messages":
		return &messageAggregator{}
	case "/v1/responses":
		return &responseAggregator{}
	}
	return nil
}

// WantsNoStream reports whether a call asks for a non-streaming answer. An invalid value,
// such as 1, is left to the upstream.
func WantsNoStream(c *request.Request) bool {
	if c.Body.Form || c.Body.Stream {
		return false
	}
	v := gjson.GetBytes(c.Body.Raw, "stream")
	return !v.Exists() || v.Type == gjson.Null || v.Type == gjson.False
}

// UpstreamError is an error that ended a stream, with the upstream's message.
type UpstreamError struct{ Message string }

func (e *UpstreamError) Error() string { return "its stream ended with an error" }

// noPartial is embedded by aggregators of answers that cannot be continued.
type noPartial struct{}

func (noPartial) Partial() Partial { return Partial{} }

// eventJSON parses the JSON object of an event; ok is false for an event without data.
func eventJSON(e wire.Event, size *int) (object gjson.Result, ok bool, err error) {
	if len(e.Data) == 0 {
		return object, false, nil
	}
	if e.Cut && !wire.ValidJSON(e.Data) {
		return object, false, ErrTruncated
	}
	if *size += len(e.Data); *size > MaxBytes {
		return object, false, ErrTooLong
	}
	if !wire.ValidJSON(e.Data) || e.Data[0] != '{' {
		return object, false, fmt.Errorf("%w: an event is %s", ErrUnmergeable, wire.NotJSON)
	}
	return gjson.ParseBytes(e.Data), true, nil
}
