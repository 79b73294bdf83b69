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

// collect reads the rest of a stream that the client did not ask for, and makes
// it the whole answer. Nothing has been sent to the client, so another backend can still
// answer the call if this fails.
func (a *Answer) collect(c *request.Request) *backend.Failure {
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
			if !a.ours { // llama-server reports it at the end
				m := c.Dialect.InspectEvent(e, true)
				a.Usage.Merge(m.Usage)
				a.finish(m, e)
			}
			err = a.aggregator.Add(e)
			a.Ended = a.aggregator.Done()
		}
		if clean {
			err = aggregate.ErrTruncated
		}
		if err != nil {
			if a.ours && (lost || errors.Is(err, aggregate.ErrTruncated)) || clean && a.completable(c) {
				if whole, ok := a.aggregator.ResultAtLimit(); ok {
					a.Mended = true
					return a.collected(whole, c.Dialect)
				}
			}
			return a.notCollected(err)
		}
	}
	whole, err := a.aggregator.Result()
	if err != nil {
		return a.notCollected(err)
	}
	return a.collected(whole, c.Dialect)
}

// completable says whether the clean end of an upstream's stream may stand for its end
// mark. For chats and completions Complete has the rule.
func (a *Answer) completable(c *request.Request) bool {
	_, of := c.Dialect.(wire.Choices)
	return !of || a.Complete(c)
}

// collected makes what was put together the answer.
func (a *Answer) collected(whole []byte, d wire.Dialect) *backend.Failure {
	m := d.InspectBody(whole)
	if m.Failed != "" {
		return &backend.Failure{Reason: backend.BadResponse, Phase: backend.Generating, Detail: "answered without an answer", Message: wire.Shorten(m.Failed)}
	}
	if a.ours {
		a.Usage = m.Usage
	} else { // an event may have had more than the last one, such as the cost
		a.Usage.Merge(m.Usage)
	}
	a.Reserved.ObserveWhole(gjson.ParseBytes(whole))
	a.Held, a.events = whole, nil
	if so := a.aggregator.Partial(); so.Several { // the answer has those of its first choice only
		a.Usage.Completion = &so.Tokens
	}
	a.resp.Header.Set("Content-Type", "application/json; charset=utf-8")
	a.resp.Header.Del("Cache-Control") // these two are a stream's
	a.resp.Header.Del("X-Accel-Buffering")
	return nil
}

// notCollected says what it means that a stream can't be put together.
func (a *Answer) notCollected(err error) *backend.Failure {
	var own *aggregate.LocalError
	var failed *aggregate.UpstreamError
	switch {
	case errors.As(err, &failed):
		return &backend.Failure{Reason: backend.BadResponse, Phase: backend.Generating, Detail: "ended its stream with an error", Message: wire.Shorten(failed.Message)}
	case errors.As(err, &own): // what it would have said without a stream
		header := a.resp.Header.Clone()
		header.Set("Content-Type", "application/json; charset=utf-8")
		return backend.NewError(&backend.Response{Status: own.Status, Header: header, Body: []byte(own.Body)})
	case errors.Is(err, aggregate.ErrNotSame), errors.Is(err, aggregate.ErrUnknownFormat), errors.Is(err, aggregate.ErrTooLong), errors.Is(err, aggregate.ErrUnmergeable):
		return a.notAggregated(err)
	case errors.Is(err, ErrStalled):
		return a.brokenOff(backend.Stalled, "was silent for too long in the middle of its answer")
	case errors.Is(err, aggregate.ErrTruncated):
		return a.brokenOff(backend.Lost, "broke its answer off")
	}
	return a.brokenOff(backend.Lost, "broke its answer off: "+wire.RootCause(err))
}

// partial returns what has come of a local server's answer; nil if no other backend
// could continue it faithfully.
func (a *Answer) partial() *resume.PartialAnswer {
	so := a.aggregator.Partial()
	if !a.ours || so.Text == "" || so.Called || so.Logprobs || so.Several || so.Finished || so.Reasoning != "" {
		return nil
	}
	return &resume.PartialAnswer{Text: so.Text, Tokens: so.Tokens}
}

// brokenOff returns the failure of an answer that broke off, with what has come of it.
func (a *Answer) brokenOff(reason backend.Reason, detail string) *backend.Failure {
	failed := broken(reason, detail)
	failed.Partial = a.partial()
	return failed
}

// notAggregated returns the failure of a stream that can't be put together.
func (a *Answer) notAggregated(err error) *backend.Failure {
	failed := broken(backend.BadResponse, err.Error())
	failed.UnknownFormat = errors.Is(err, aggregate.ErrUnknownFormat)
	if a.ours {
		failed.Next = backend.RetryUnmodified
	}
	return failed
}
