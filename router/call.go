package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// errCut says that an answer broke after its first part was sent. Any other
// error of a relay is the client's connection.
var errCut = errors.New("the answer was cut")

// serve takes a call from its plan to its record.
func (rt *Router) serve(w http.ResponseWriter, r *http.Request, c *request.Request, p plan) {
	rec := record{request: c, route: p.route.Name, reason: p.reason, detail: p.detail, meant: p.meant, spared: p.spared, accounting: p.accounting}
	c.Route = p.route.Name
	rt.metrics.inflight.Inc()
	rt.inflight.Add(1)
	rt.calls.Add(1)
	defer func() {
		rt.finish(&rec) // before it is no longer counted: whoever waits for the last call wants it written down
		rt.inflight.Add(-1)
		rt.metrics.inflight.Dec()
	}()
	if p.refuse.Status != 0 {
		rt.refuse(w, c, &rec, p.refuse)
		return
	}

	var failures []*failure
	for i, s := range p.steps {
		next := i+1 < len(p.steps)
		var failed *failure
		if i > 0 {
			done, notDone := rt.goOn(w, r, c, p, s, failures[i-1], &rec)
			if done {
				return
			}
			if failed = notDone; failed != nil {
				rec.total.Add(failed.charge)
			}
			dropLeft(r, &rec)
		}
		if failed != nil && failed.begun && s.backend.paid() { // the whole would be paid for on top of the rest
			failures = append(failures, failed)
			rec.note(failed)
			break
		}
		// A server that returns is no alternative to move to at once.
		failed = rt.try(w, r, c, p, s, next && !p.steps[i+1].returns, &rec)
		if failed == nil {
			return
		}
		failures = append(failures, failed)
		rec.total.Add(failed.charge)
		dropLeft(r, &rec)
		rec.note(failed)
		if next && s.first && failed.overBudget == nil && !mayFallBack(p.route, failed.reason) {
			p.noSpare = fmt.Sprintf("the route's fallback_on has no %s", failed.reason)
			break
		}
		if _, local := s.backend.(*localBackend); local && failed.ownField(c) {
			break
		}
		if !s.first && failed.callersFault() {
			break // it is not worth waiting for the server
		}
		if s.backend.paid() && failed.begun && i+1 < len(p.steps) && p.steps[i+1].backend.paid() {
			break // a second paid attempt might pay for the same answer twice
		}
	}
	if failures[0].unwaited && len(failures) == 2 && !failures[1].callersFault() { // the wait is better than nobody, now
		alone := p
		if failures[1].begun && p.steps[1].backend.paid() { // what breaks is not gone on with by whoever may have been paid already
			alone.steps = p.steps[:1]
		}
		if failed := rt.try(w, r, c, alone, p.steps[0], false, &rec); failed == nil {
			return
		}
		dropLeft(r, &rec)
	}
	rt.giveUp(w, c, &rec, p, failures)
}

// dropLeft ends a call whose client has gone away.
func dropLeft(r *http.Request, rec *record) {
	if r.Context().Err() != nil {
		// Whoever only closed his sending side may still read: he must not
		// take net/http's empty 200 for an answer.
		rec.left = true
		panic(http.ErrAbortHandler)
	}
}

// try gives a call to one backend and, if it answers, passes the answer on.
// mayMove says that there is another one to go to.
func (rt *Router) try(w http.ResponseWriter, r *http.Request, c *request.Request, p plan, s step, mayMove bool, rec *record) *failure {
	timeout := p.route.Timeout
	if !s.first {
		timeout = p.spareTimeout
	}
	other := alternative{exists: mayMove, route: p.route}
	a, failed := attempt(r.Context(), c, s, timeout, p.idleTimeout, other, false)
	if failed != nil && failed.again && r.Context().Err() == nil {
		a, failed = rt.again(r.Context(), c, s, p, other, failed)
	}
	if failed == nil {
		rec.backend, rec.model = s.backend.name(), s.model
		_, rec.local = s.backend.(*localBackend)
		if s.first { // though it may not have been the first one to be asked
			rec.reason = ""
		}
		if a.mended {
			rec.detail = strings.TrimPrefix(rec.detail+"; "+rec.backend+" broke its answer off at the end of the text", "; ")
		}
		if a.events != nil {
			a.resume = resumableBy(c, p, s, rec)
		}
		rt.deliver(w, r, c, a, rec)
	}
	return failed
}

// defaultFallbackTimeout is how long a fallback may take to its first answer. A
// route's own timeout speaks of its primary.
const defaultFallbackTimeout = 120 * time.Second

// defaultIdleTimeout is how long a stream that has begun may be silent. Those who
// think for longer send comments.
const defaultIdleTimeout = 120 * time.Second

// deliver commits to an answer and passes it on.
func (rt *Router) deliver(w http.ResponseWriter, r *http.Request, c *request.Request, a *answer, rec *record) {
	defer a.close()
	rec.firstAnswer = a.first.Sub(c.Began)
	rec.status = a.resp.StatusCode
	rec.usage, rec.reserved = a.usage, a.reserved
	h := w.Header()
	copyAnswerHeaders(h, a.resp.Header)
	h.Set(headerBackend, rec.backend)
	if rec.reason != "" {
		h.Set(headerReason, string(rec.reason))
	}
	if a.events == nil && a.rest == nil { // all of it is here: the client's pace is its own matter
		a.place.release(withAnswer)
	}
	err := a.relay(r.Context(), w, c.Dialect, rec)
	switch {
	case err == nil:
		a.place.release(withAnswer)
	case r.Context().Err() != nil || !errors.Is(err, errCut):
		rec.left = true
		panic(http.ErrAbortHandler)
	default:
		rec.cut = err
		// The client must not take what it has for the whole: an HTTP/1 body
		// that is aborted has no end. net/http knows this panic, and closes.
		panic(http.ErrAbortHandler)
	}
}

// refuse answers a call that is given to nobody.
func (rt *Router) refuse(w http.ResponseWriter, c *request.Request, rec *record, e wire.Error) {
	rec.status, rec.code = e.Status, e.Code
	if rec.reason != "" {
		w.Header().Set(headerReason, string(rec.reason))
	}
	wire.WriteError(w, c.Dialect, e)
}

// giveUp answers a call that every backend of its plan failed. Where only one
// was asked and it answered, its own words go through as they are, unless it is a
// fallback that speaks of its operator.
func (rt *Router) giveUp(w http.ResponseWriter, c *request.Request, rec *record, p plan, failures []*failure) {
	last := failures[len(failures)-1]
	if p.bound && !last.callersFault() {
		rec.reason = Unsupported
	}
	if p.overBudget == nil {
		p.overBudget = last.overBudget
	}
	if p.overBudget != nil && p.wouldPay(last) {
		cause := ""
		if first := failures[0]; first.overBudget == nil {
			cause = first.wordsForCaller()
		}
		rt.refuse(w, c, rec, p.overBudgetError(cause))
		return
	}
	if ofOperator(p, failures) {
		rt.refuse(w, c, rec, operatorsFault(p, failures))
		return
	}
	if len(failures) == 1 && last.resp != nil && wire.IsErrorStatus(last.resp.StatusCode) {
		h := w.Header()
		copyAnswerHeaders(h, last.resp.Header)
		for name, values := range h {
			clean := make([]string, len(values)) // the header is the backend's
			for i, value := range values {
				clean[i] = p.redact(value)
			}
			h[name] = clean
		}
		h.Set(headerBackend, last.backend)
		rec.backend, rec.status = last.backend, last.resp.StatusCode
		switch {
		case !p.steps[0].first:
			h.Set(headerReason, string(p.reason))
			rec.reason, rec.detail = p.reason, p.detail
		case p.bound && !last.callersFault():
			h.Set(headerReason, string(rec.reason))
			rec.detail += "; " + p.noSpare
		default:
			rec.reason = ""
		}
		w.WriteHeader(last.resp.StatusCode)
		_, _ = io.WriteString(w, p.redact(string(last.body))) // the client may have left
		return
	}
	e := wire.Error{Status: last.httpStatus(), Type: wire.TypeServer, Code: string(last.reason), RetryAfter: last.retryAfter}
	e.Message = last.wordsForCaller()
	if len(failures) == 2 {
		e.Code = wire.CodeBothFailed
		e.Message = fmt.Sprintf("%s; then %s", failures[0].wordsForCaller(), last.wordsForCaller())
	} else if p.detail != "" {
		e.Message = p.detail + "; " + last.wordsForCaller()
	}
	if p.noSpare != "" {
		e.Message += "; " + p.noSpare
	} else if p.route.Fallback == "" {
		e.Message += "; the route " + p.route.Name + " has no fallback"
	}
	switch {
	case last.reason == Saturated:
		e.Type = wire.TypeRateLimit
	case e.Status < http.StatusInternalServerError:
		e.Type = wire.TypeInvalid
	}
	rt.refuse(w, c, rec, e)
}

// requestID keeps a client's own request id where it is a harmless one.
func requestID(r *http.Request) string {
	id := r.Header.Get(headerRequestID)
	if id == "" || len(id) > 128 {
		return newRequestID()
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return newRequestID()
		}
	}
	return id
}

// contextEnded turns the end of an attempt's context into its failure's reason.
func contextEnded(ctx context.Context) Reason {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeout):
		return Timeout
	case errors.Is(cause, errGone):
		return Lost
	}
	return ""
}
