package router

import (
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// aggregator puts the whole answer together from the events of a stream that the
// client did not ask for.
type aggregator interface {
	// Add takes the next event. After an error the stream is of no use any more, but
	// for what soFar tells.
	add(e wire.Event) error
	// Whole returns the answer. It is an error before the stream's end.
	whole() ([]byte, error)
	// mend returns the answer of a stream that lacks its end, if it is known.
	mend() (whole []byte, ok bool)
	// done says whether the stream has come to its end.
	done() bool
	// soFar is what has come of the answer.
	soFar() soFar
}

// newAggregator returns an aggregator for what an upstream streams at a path, in
// answer to a call that asked for no stream; nil where there is none. It takes what
// any upstream may send, and refuses what it would have to guess.
func newAggregator(path string) aggregator {
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

// wantsNoStream says whether a call asks for an answer that is no stream. Of an odd
// value, such as 1, the upstream decides.
func (c *call) wantsNoStream() bool {
	if c.body.Form || c.body.Stream {
		return false
	}
	v := gjson.GetBytes(c.body.Raw, "stream")
	return !v.Exists() || v.Type == gjson.Null || v.Type == gjson.False
}

// upstreamStreamError is an error that ended a stream, in the upstream's words.
type upstreamStreamError struct{ said string }

func (e *upstreamStreamError) Error() string { return "its stream ended with an error" }

// noPartial is an aggregator's for an answer of which a part is of no use.
type noPartial struct{}

func (noPartial) soFar() soFar { return soFar{} }

// eventJSON reads the JSON object of an event; ok is false for one without data.
func eventJSON(e wire.Event, size *int) (object gjson.Result, ok bool, err error) {
	if len(e.Data) == 0 {
		return object, false, nil
	}
	if e.Cut && !wire.ValidJSON(e.Data) {
		return object, false, errNotWhole
	}
	if *size += len(e.Data); *size > maxHeld {
		return object, false, errTooLong
	}
	if !wire.ValidJSON(e.Data) || e.Data[0] != '{' {
		return object, false, fmt.Errorf("%w: an event is %s", errUnmergeable, wire.NotJSON)
	}
	return gjson.ParseBytes(e.Data), true, nil
}
