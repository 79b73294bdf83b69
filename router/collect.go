package router

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// A local server is given a call that wants no stream as one that does, and its
// events are put together to the answer that it would have given. So the time to
// the first answer is known, as for a stream: a healthy answer that takes minutes
// is not taken for silence and paid for elsewhere.

// formFor returns the form in which a call goes to a local server; nil = as it is.
func (b *localBackend) formFor(c *request.Request) *aggregate.Form {
	now := b.local.State()
	if !now.Streams {
		return nil
	}
	if gone, strange := b.strange.Load(c.Path); strange && gone == now.Gone {
		return nil
	}
	if c.Body.Stream {
		if form, ok := aggregate.WithUsage(c.Body, c.Path); ok {
			return &form
		}
		return nil
	}
	if form, ok := aggregate.AsStream(c.Body, c.Path); ok {
		return &form
	}
	return nil
}

// formFor asks a paid upstream for the usage of a stream. All else is sent as it
// is: others than llama-server stream in ways of their own.
func (b *upstreamBackend) formFor(c *request.Request) *aggregate.Form {
	if !b.paid() || b.withoutUsage.Load() {
		return nil
	}
	if form, ok := aggregate.WithUsage(c.Body, c.Path); ok {
		return &form
	}
	return nil
}

// collect reads the rest of a stream that the client did not ask for, and makes
// it the whole answer. Nothing has been sent to the client, so that anything that
// goes wrong can still be mended elsewhere.
func (a *answer) collect(c *request.Request) *failure {
	a.beginWatch()
	defer a.endWatch()
	for !a.ended {
		e, err := a.awaitEvent()
		broken, clean := err != nil, errors.Is(err, io.EOF)
		if err == nil {
			a.load.output.Add(int64(len(e.Data)))
			a.reserved.Observe(e.Data)
			if !a.ours { // llama-server tells at the end
				m := c.Dialect.InspectEvent(e, true)
				a.usage.Merge(m.Usage)
				a.finish(m, e)
			}
			err = a.assembler.Add(e)
			a.ended = a.assembler.Done()
		}
		if clean {
			err = aggregate.ErrTruncated
		}
		if err != nil {
			if a.ours && (broken || errors.Is(err, aggregate.ErrTruncated)) || clean && a.mendable(c) {
				if whole, ok := a.assembler.ResultAtLimit(); ok {
					a.mended = true
					return a.collected(whole, c.Dialect)
				}
			}
			return a.uncollected(err)
		}
	}
	whole, err := a.assembler.Result()
	if err != nil {
		return a.uncollected(err)
	}
	return a.collected(whole, c.Dialect)
}

// mendable says whether the clean end of an upstream's stream may stand for its end
// mark. Of chats and completions the rule is relay's.
func (a *answer) mendable(c *request.Request) bool {
	_, of := c.Dialect.(wire.Choices)
	return !of || a.complete(c.Dialect, c.Body)
}

// collected makes what was put together the answer.
func (a *answer) collected(whole []byte, d wire.Dialect) *failure {
	m := d.InspectBody(whole)
	if m.Failed != "" {
		return &failure{reason: BadResponse, detail: "answered without an answer", said: wire.Shorten(m.Failed), begun: true}
	}
	if a.ours {
		a.usage = m.Usage
	} else { // an event may have told more than the last one, such as the cost
		a.usage.Merge(m.Usage)
	}
	a.reserved.ObserveWhole(gjson.ParseBytes(whole))
	a.held, a.events = whole, nil
	if so := a.assembler.Partial(); so.Several { // the answer tells those of its first choice alone
		a.usage.Completion = &so.Tokens
	}
	a.resp.Header.Set("Content-Type", "application/json; charset=utf-8")
	a.resp.Header.Del("Cache-Control") // these two are a stream's
	a.resp.Header.Del("X-Accel-Buffering")
	return nil
}

// uncollected says what it means that a stream can't be put together.
func (a *answer) uncollected(err error) *failure {
	var own *aggregate.LocalError
	var failed *aggregate.UpstreamError
	switch {
	case errors.As(err, &failed):
		return &failure{reason: BadResponse, detail: "ended its stream with an error", said: wire.Shorten(failed.Message), begun: true}
	case errors.As(err, &own): // what it would have said without a stream
		header := a.resp.Header.Clone()
		header.Set("Content-Type", "application/json; charset=utf-8")
		return refusedWith(&http.Response{StatusCode: own.Status, Header: header}, []byte(own.Body))
	case errors.Is(err, aggregate.ErrNotSame), errors.Is(err, aggregate.ErrUnknownFormat), errors.Is(err, aggregate.ErrTooLong), errors.Is(err, aggregate.ErrUnmergeable):
		return &failure{reason: BadResponse, detail: err.Error(), begun: true, again: a.ours, strange: errors.Is(err, aggregate.ErrUnknownFormat)}
	case errors.Is(err, errStalled):
		return &failure{reason: Stalled, detail: "was silent for too long in the middle of its answer", begun: true, part: a.part()}
	case errors.Is(err, aggregate.ErrTruncated):
		return &failure{reason: Lost, detail: "broke its answer off", begun: true, part: a.part()}
	}
	return &failure{reason: Lost, detail: "broke its answer off: " + rootCause(err), begun: true, part: a.part()}
}

// part returns what has come of a local server's answer; nil if no other backend
// could continue it faithfully.
func (a *answer) part() *resume.PartialAnswer {
	so := a.assembler.Partial()
	if !a.ours || so.Text == "" || so.Called || so.Logprobs || so.Several || so.Finished || so.Reasoning != "" {
		return nil
	}
	return &resume.PartialAnswer{Text: so.Text, Tokens: so.Tokens}
}

// goOn gives the rest of a call to the next backend, whose first one broke off in
// the middle of its answer. done is false where that can't be, and the whole call
// has to be given away; failed is then why, if the backend was asked.
func (rt *Router) goOn(w http.ResponseWriter, r *http.Request, c *request.Request, p plan, s step, first *failure, rec *record) (done bool, failed *failure) {
	d := resume.DialectOf(c.Path)
	object := gjson.Parse(c.Body.Text())
	// Nothing has been sent of a beginning that is too short to tell its repetition,
	// which is what a llama-server answers with; it may as well be made again.
	if first.part == nil || len(first.part.Text) < resume.MinOverlap || d == nil || !p.route.Resume || resume.NotResumable(object) != "" {
		return false, nil
	}
	limits, left := resume.ReduceMaxTokens(object, first.part.Tokens)
	more, ok := d.ExtendRequest(object, first.part.Text)
	if !ok || left == 0 {
		return false, nil
	}
	next := *c
	var err error
	if next.Body, err = request.ParseBodyFor(c.Body.Fields, []byte(wire.Apply(c.Body.Text(), append(limits, more)))); err != nil {
		return false, nil
	}
	a, failed := attempt(r.Context(), &next, s, p.spareTimeout, p.idleTimeout, alternative{}, false)
	if failed != nil {
		return false, failed
	}
	joined, ok := d.Join(string(a.held), *first.part)
	if a.events != nil || a.rest != nil || !ok {
		a.close()
		failed = &failure{backend: s.backend.name(), reason: BadResponse, detail: "could not go on with the answer", begun: true, usage: a.usage}
		failed.settle(a.reserved)
		return false, failed
	}
	a.held = []byte(joined)
	rec.backend, rec.model, rec.resumedBy = s.backend.name(), s.model, s.backend.name()
	rec.local, rec.firstPart = p.local != nil, first.part.Tokens
	rec.ofRest, a.usage = a.usage, c.Dialect.InspectBody([]byte(joined)).Usage
	rt.deliver(w, r, c, a, rec)
	return true, nil
}

// again gives a call to the same server once more, as it is, where its stream
// could not be put together.
func (rt *Router) again(ctx context.Context, c *request.Request, s step, p plan, other alternative, failed *failure) (*answer, *failure) {
	if b, ok := s.backend.(*localBackend); ok && failed.strange {
		b.strange.Store(c.Path, b.local.State().Gone)
		rt.log.Warn().Str("server", b.server).Str("path", c.Path).Msg("unexpected stream format; non-streaming calls are forwarded unchanged: " + failed.detail)
	}
	// It took so long to find out; it may take as long once more.
	timeout := max(p.route.Timeout, 2*time.Since(c.Began))
	return attempt(ctx, c, s, timeout, p.idleTimeout, other, true)
}
