package attempt

import (
	"errors"
	"io"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// collectStream reads the rest of a stream that the client did not ask for, and builds the
// whole answer from it. Nothing has been sent to the client, so another backend can still
// answer the call if this fails.
func (a *Answer) collectStream(c *request.Request) *backend.Failure {
	if a.aggregator == nil { // the client asked for the stream, or there is none
		return nil
	}
	a.Watch()
	defer a.StopWatching()
	for !a.Ended {
		e, err := a.await()
		lost, clean := err != nil, errors.Is(err, io.EOF)
		if err == nil {
			a.Lease.Received(len(e.Data))
			a.Reserved.Observe(e.Data)
			if !a.streamRequested { // llama-server reports it at the end
				m := c.Dialect.InspectEvent(e, true)
				a.Usage.Merge(m.Usage)
				a.markFinished(m, e)
			}
			err = a.aggregator.Add(e)
			a.Ended = a.aggregator.Done()
		}
		if clean {
			err = aggregate.ErrTruncated
		}
		if err != nil {
			if a.streamRequested && (lost || errors.Is(err, aggregate.ErrTruncated)) || clean && a.endsCleanly(c) {
				if whole, ok := a.aggregator.ResultAtLimit(); ok {
					a.CompletedAtLimit = true
					return a.setCollected(whole, c.Dialect)
				}
			}
			return a.aggregationFailure(err)
		}
	}
	whole, err := a.aggregator.Result()
	if err != nil {
		return a.aggregationFailure(err)
	}
	return a.setCollected(whole, c.Dialect)
}

// endsCleanly reports whether the clean end of an upstream's stream may replace its end mark.
// For chats and completions every choice must have its finish reason.
func (a *Answer) endsCleanly(c *request.Request) bool {
	_, hasChoices := c.Dialect.(wire.Choices)
	return !hasChoices || a.Complete()
}

// setCollected makes the aggregated answer the answer of the attempt.
func (a *Answer) setCollected(whole []byte, d wire.Dialect) *backend.Failure {
	m := d.InspectBody(whole)
	if m.Failed != "" {
		return &backend.Failure{Reason: backend.BadResponse, Phase: backend.Generating, Detail: "sent a stream without an answer", Message: wire.Shorten(m.Failed)}
	}
	if a.streamRequested {
		a.Usage = m.Usage
	} else { // an earlier event may have more fields than the last one, such as the cost
		a.Usage.Merge(m.Usage)
	}
	a.Reserved.ObserveWhole(gjson.ParseBytes(whole))
	a.Held, a.events = whole, nil
	if partial := a.aggregator.Partial(); partial.MultipleChoices { // the answer has the usage of its first choice only
		a.Usage.Completion = &partial.Tokens
	}
	a.resp.Header.Set("Content-Type", "application/json; charset=utf-8")
	a.resp.Header.Del("Cache-Control") // these two headers are for streams
	a.resp.Header.Del("X-Accel-Buffering")
	return nil
}

// completeWhole adds what the schema requires to an answer that is held whole.
func (a *Answer) completeWhole() {
	if a.completer != nil && !a.IsStream() && a.Rest == nil {
		a.Held = a.completer.Whole(a.Held)
	}
}

// aggregationFailure returns the failure of a stream that could not be aggregated.
func (a *Answer) aggregationFailure(err error) *backend.Failure {
	var own *aggregate.LocalError
	var failed *aggregate.UpstreamError
	switch {
	case errors.As(err, &failed):
		return &backend.Failure{Reason: backend.BadResponse, Phase: backend.Generating, Detail: "ended its stream with an error", Message: wire.Shorten(failed.Message)}
	case errors.As(err, &own): // the error that it would have sent without a stream
		header := a.resp.Header.Clone()
		header.Set("Content-Type", "application/json; charset=utf-8")
		return backend.NewError(&backend.Response{Status: own.Status, Header: header, Body: []byte(own.Body)})
	case errors.Is(err, aggregate.ErrNotSame), errors.Is(err, aggregate.ErrUnknownFormat), errors.Is(err, aggregate.ErrTooLong), errors.Is(err, aggregate.ErrUnmergeable):
		return a.unaggregatableFailure(err)
	case errors.Is(err, ErrStalled):
		return a.truncatedFailure(backend.Stalled, "sent nothing for too long in the middle of its answer")
	case errors.Is(err, aggregate.ErrTruncated):
		return a.truncatedFailure(backend.Lost, "ended its stream in the middle of its answer")
	}
	return a.truncatedFailure(backend.Lost, "lost the connection in the middle of its answer: "+wire.RootCause(err))
}

// partial returns the beginning of a local server's answer; nil if no other backend could
// continue it exactly.
func (a *Answer) partial() *resume.PartialAnswer {
	p := a.aggregator.Partial()
	if !a.streamRequested || p.Text == "" || p.HasToolCall || p.Logprobs || p.MultipleChoices || p.Finished || p.Reasoning != "" {
		return nil
	}
	return &resume.PartialAnswer{Text: p.Text, Tokens: p.Tokens}
}

// truncatedFailure returns the failure of a truncated answer, with its beginning.
func (a *Answer) truncatedFailure(reason backend.Reason, detail string) *backend.Failure {
	failed := failureAfterHeaders(reason, detail)
	failed.Partial = a.partial()
	return failed
}

// unaggregatableFailure returns the failure of a stream of which no whole answer can be built.
func (a *Answer) unaggregatableFailure(err error) *backend.Failure {
	failed := failureAfterHeaders(backend.BadResponse, err.Error())
	failed.UnknownFormat = errors.Is(err, aggregate.ErrUnknownFormat)
	if a.streamRequested {
		failed.Next = backend.RetryUnmodified
	}
	return failed
}
