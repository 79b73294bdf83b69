package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// resumption goes on with a stream that broke after its first part was sent: the
// fallback is asked to continue the text, and its answer becomes the rest of the
// same stream. Once a call, and only where the answer is plain text.
type resumption struct {
	request *request.Request
	to      step
	plan    plan
	story   resume.Transcript
	rec     *record
	tried   bool
}

// resumable returns how a call could be resumed that the first step of a plan
// answers; nil = it can't be.
func resumableBy(c *request.Request, p plan, s step, rec *record) *resumption {
	d := resume.DialectOf(c.Path)
	if d == nil || !s.first || !p.steps[0].first || !p.route.Resume || len(p.steps) < 2 || s.backend.paid() || !mayFallBack(p.route, Lost) {
		return nil
	}
	return &resumption{request: c, to: p.steps[1], plan: p, story: resume.Transcript{Dialect: d}, rec: rec}
}

var errNoResume = errors.New("nobody else can go on with it")

// resume writes the rest of a stream that broke. It returns errNoResume where it
// has written nothing, and the caller has to say that the stream broke.
func (r *resumption) resume(ctx context.Context, w http.ResponseWriter) error {
	if r == nil || r.tried || r.story.NotResumable != "" || r.story.Header.ID == "" || r.story.TextEnded && r.story.Finish == "" {
		return errNoResume
	}
	r.tried = true
	object := gjson.Parse(r.request.Body.Text())
	if resume.NotResumable(object) != "" { // looked at only now: nearly all streams come to their end
		return errNoResume
	}
	wantsUsage := object.Get("stream_options.include_usage").Bool()
	limits, left := resume.ReduceMaxTokens(object, r.story.Tokens)
	switch {
	case r.story.Finish != "": // it was whole but for its end mark
		return r.end(w, wantsUsage, r.known())
	case left == 0:
		if err := r.finish(w, r.story.Dialect.OutOfTokens); err != nil {
			return err
		}
		return r.end(w, wantsUsage, r.known())
	}
	more, ok := r.story.Dialect.ExtendRequest(object, r.story.Text.String())
	if !ok {
		return errNoResume
	}
	next := *r.request
	var err error
	if next.Body, err = request.ParseBodyFor(r.request.Body.Fields, []byte(wire.Apply(r.request.Body.Text(), append(limits, more)))); err != nil {
		return errNoResume
	}
	a, failed := attempt(ctx, &next, r.to, r.plan.spareTimeout, r.plan.idleTimeout, alternative{}, false)
	if failed != nil {
		r.rec.total.Add(failed.charge)
		r.rec.detail = strings.TrimPrefix(r.rec.detail+"; "+failed.words(), "; ")
		return errNoResume
	}
	defer a.close()
	if a.events == nil {
		if a.reserved != nil {
			charge := a.reserved.Settle(a.usage, true)
			r.rec.total.Add(&charge)
		}
		return errNoResume
	}
	r.rec.resumedBy, r.rec.reserved, r.rec.firstPart = r.to.backend.name(), a.reserved, r.story.Tokens
	if _, err := fmt.Fprintf(w, ": resumed by %s\n\n", r.rec.resumedBy); err != nil {
		return err
	}
	return r.relay(w, a, wantsUsage)
}

// relay writes the continuation as events of the stream that broke.
func (r *resumption) relay(w http.ResponseWriter, a *answer, wantsUsage bool) error {
	if first, ok := w.(*patientWriter); ok { // who waits for the client now is the second backend
		w = newPatientWriter(first.ResponseWriter, a)
	}
	a.beginWatch()
	defer a.endWatch()
	flush := http.NewResponseController(w).Flush
	repeated := resume.NewOverlapFilter(r.story.Text.String())
	var used wire.Usage
	say := func(text string) error {
		if text == "" {
			return nil
		}
		if _, err := w.Write(r.story.Dialect.TextEvent(r.story.Header, text)); err != nil {
			return err
		}
		return flush()
	}
	held := wire.NewEventReader(io.MultiReader(bytes.NewReader(a.held), bytes.NewReader(a.unasked.Pending())))
	for finished := false; ; {
		e, err := held.Next()
		if errors.Is(err, io.EOF) {
			e, err = a.awaitEvent()
			a.load.output.Add(int64(len(e.Data))) // what was held is counted
			a.reserved.Observe(e.Data)
		}
		m := wire.EventInfo{}
		if err == nil {
			m = r.request.Dialect.InspectEvent(e, false)
			a.finished |= m.Finished
		} else if errors.Is(err, io.EOF) && a.complete(r.request.Dialect, r.request.Body) {
			m.Ended, err = true, nil
		}
		if err != nil || e.Cut && !m.Whole(e) {
			return fmt.Errorf("%w: its continuation broke as well", errCut)
		}
		used.Merge(m.Usage)
		r.rec.ofRest = used
		switch {
		case m.Failed != "":
			return fmt.Errorf("%w: its continuation failed as well", errCut)
		case m.Ended && !finished:
			return fmt.Errorf("%w: its continuation has no end", errCut)
		case m.Ended:
			a.place.release(withAnswer)
			return r.end(w, wantsUsage, r.whole(used))
		case len(e.Data) == 0:
			continue
		}
		text, finish, spoiled := r.story.Dialect.Continuation(gjson.ParseBytes(e.Data))
		if spoiled != "" {
			return fmt.Errorf("%w: %s", errCut, spoiled)
		}
		if text = repeated.Filter(text); finish != "" {
			text += repeated.Flush(finish)
		}
		if text != "" {
			r.rec.seen++
		}
		if err := say(text); err != nil {
			return err
		}
		if finish != "" && !finished {
			finished = true
			if err := r.finish(w, finish); err != nil {
				return err
			}
		}
	}
}

// finish writes the finish reason.
func (r *resumption) finish(w http.ResponseWriter, reason string) error {
	r.story.Finish = reason
	if _, err := w.Write(r.story.Dialect.FinishEvent(r.story.Header, reason)); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// known is what was used of a stream that nobody else has to go on with: what its
// events said, which also know of tokens without a text.
func (r *resumption) known() wire.Usage {
	u := wire.Usage{Completion: &r.story.Tokens}
	u.Merge(r.rec.usage)
	return u
}

// whole puts both parts' tokens together. The continuation's prompt had the
// first part in it.
func (r *resumption) whole(second wire.Usage) wire.Usage {
	completion := r.story.Tokens
	if second.Completion != nil {
		completion += *second.Completion
	}
	u := wire.Usage{Completion: &completion}
	if second.Prompt != nil {
		u.Prompt = new(max(*second.Prompt-r.story.Tokens, 0))
	}
	return u
}

// end ends the stream as its dialect does.
func (r *resumption) end(w http.ResponseWriter, wantsUsage bool, u wire.Usage) error {
	r.rec.usage.Merge(u)
	r.rec.conclude()
	if _, err := w.Write(r.story.Dialect.End(&r.story, u, wantsUsage)); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
