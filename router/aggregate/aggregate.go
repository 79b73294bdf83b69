package aggregate

import (
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Aggregator puts the whole answer together from the events of a stream that the
// client did not ask for.
type Aggregator interface {
	// Add takes the next event. After an error the stream is of no use any more, but
	// for what soFar tells.
	Add(e wire.Event) error
	// Whole returns the answer. It is an error before the stream's end.
	Result() ([]byte, error)
	// ResultAtLimit returns the answer of a stream that lacks its end, if it is known.
	ResultAtLimit() (whole []byte, ok bool)
	// Done says whether the stream has come to its end.
	Done() bool
	// Partial is what has come of the answer.
	Partial() Partial
}

// MaxBytes is how much of a whole answer is held back to see that it is one, in
// bytes. A larger one (embeddings of a large batch) is passed on as it comes.
const MaxBytes = 32 << 20

// ForUpstream returns an aggregator for what an upstream streams at a path, in
// answer to a call that asked for no stream; nil where there is none. It takes what
// any upstream may send, and refuses what it would have to guess.
func ForUpstream(path string) Aggregator {
	switch path {
	case "/v1/chat/completions":
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

// WantsNoStream says whether a call asks for an answer that is no stream. Of an odd
// value, such as 1, the upstream decides.
func WantsNoStream(c *request.Request) bool {
	if c.Body.Form || c.Body.Stream {
		return false
	}
	v := gjson.GetBytes(c.Body.Raw, "stream")
	return !v.Exists() || v.Type == gjson.Null || v.Type == gjson.False
}

// UpstreamError is an error that ended a stream, in the upstream's words.
type UpstreamError struct{ Message string }

func (e *UpstreamError) Error() string { return "its stream ended with an error" }

// noPartial is an aggregator's for an answer of which a part is of no use.
type noPartial struct{}

func (noPartial) Partial() Partial { return Partial{} }

// eventJSON reads the JSON object of an event; ok is false for one without data.
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
