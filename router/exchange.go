package router

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// errTruncated says that an answer broke after its first part was sent. Any other error
// of a relay is that of the client's connection.
var errTruncated = errors.New("the answer was cut")

// exchange takes one call from its plan to its record.
type exchange struct {
	rt      *Router
	w       http.ResponseWriter
	ctx     context.Context //nolint:containedctx // an exchange lives as long as its request
	request *request.Request
	plan    plan.Plan
	rec     record

	candidates []plan.Candidate   // those of the plan that are not skipped
	past       []plan.Attempted   // the attempts so far
	failures   []*attempt.Failure // those that a client is told about
}

// serve answers a call.
func (rt *Router) serve(w http.ResponseWriter, r *http.Request, c *request.Request, p plan.Plan) {
	c.Route = p.Route.Name
	x := &exchange{rt: rt, w: w, ctx: r.Context(), request: c, plan: p, candidates: plan.Kept(p.Candidates), rec: newRecord(c, p)}
	rt.metrics.inflight.Inc()
	rt.inflight.Add(1)
	rt.calls.Add(1)
	defer func() {
		rt.finish(&x.rec) // before the call is no longer counted: after the last call, all are recorded
		rt.inflight.Add(-1)
		rt.metrics.inflight.Dec()
	}()
	if p.Refuse.Status != 0 {
		x.refuse(p.Refuse)
		return
	}
	x.run()
}

// run tries one candidate after another, until one of them answers or none is left.
func (x *exchange) run() {
	for i, c := range x.candidates {
		if !x.mayTry(c) {
			continue
		}
		if i > 0 && x.resumeWhole(c) {
			return
		}
		if !x.mayTry(c) {
			continue
		}
		if x.try(c, x.alternative(i)) {
			return
		}
	}
	if !x.waitForServer() {
		x.fail()
	}
}

// mayTry says whether the call may be given to a candidate after what has failed so far.
func (x *exchange) mayTry(c plan.Candidate) bool {
	if len(x.past) == 0 {
		return true
	}
	on := func(reason backend.Reason) bool { return plan.FallsBackOn(x.plan.Route, reason) }
	switch plan.MayMoveOn(x.past, c.Info, on, x.ctx.Err() != nil) {
	case plan.NoObstacle:
		return true
	case plan.ClientGone:
		x.abort()
	case plan.OutsideFallback:
		x.plan.Stopped = plan.NotInFallbackOn(x.past[len(x.past)-1].Reason)
	case plan.LocalField, plan.InvalidRequest, plan.PaidTwice: // the failure says enough
	}
	return false
}

// alternative says for which reasons the call may move on from a candidate. A server that
// returns is no alternative to move to at once, and nor is a metered backend after a
// paid attempt.
func (x *exchange) alternative(i int) backend.Alternative {
	return backend.Alternative{
		Exists: slices.ContainsFunc(x.candidates[i+1:], func(c plan.Candidate) bool { return !c.Returns && !(c.Metered && x.mayHaveBilled()) }),
		On:     func(reason backend.Reason) bool { return plan.FallsBackOn(x.plan.Route, reason) },
	}
}

// params returns what an attempt at a candidate depends on.
func (x *exchange) params(c plan.Candidate, r *request.Request, other backend.Alternative) attempt.Params {
	timeout := x.plan.FallbackTimeout
	if c.Primary {
		timeout = x.plan.Route.Timeout
	}
	return attempt.Params{
		Request: r, Backend: c.Backend, Model: c.Model, Estimate: c.Estimate, Accounting: x.plan.Accounting,
		Timeout: timeout, Idle: x.plan.IdleTimeout, Alternative: other, Log: x.rt.log,
	}
}

// try gives the call to a candidate and, if it answers, passes the answer on.
func (x *exchange) try(c plan.Candidate, other backend.Alternative) (done bool) {
	a, failed := attempt.Start(x.ctx, x.params(c, x.request, other))
	if failed != nil {
		x.failed(c, failed)
		x.failures = append(x.failures, failed)
		x.rec.note(failed)
		return false
	}
	x.answered(c, a)
	return true
}

// answered passes on the answer of a candidate.
func (x *exchange) answered(c plan.Candidate, a *attempt.Answer) {
	rec := &x.rec
	rec.backend, rec.model, rec.local = c.Name, c.Model, c.Local
	if c.Primary { // though it may not have been the first candidate
		rec.reason = ""
	}
	if a.Mended {
		rec.addDetail(rec.backend + " broke its answer off at the end of the text")
	}
	var next *resumption
	if a.IsStream() {
		next = x.resumption(c)
	}
	x.deliver(a, next)
}

// failed records what an attempt came to that failed.
func (x *exchange) failed(c plan.Candidate, f *attempt.Failure) {
	x.rec.total.Add(f.Charge)
	x.past = append(x.past, plan.Attempted{
		Primary: c.Primary, Local: c.Local, Metered: c.Metered, Phase: f.Phase, Reason: f.Reason,
		OverBudget: f.OverBudget != nil, Invalid: f.InvalidRequest(), LocalField: plan.RejectedLocalField(&f.Failure, x.request),
	})
	if x.ctx.Err() != nil {
		x.abort()
	}
}

// abort ends a call whose client has closed the connection. A client that only closed its
// sending side may still read: it must not take net/http's empty 200 for an answer.
func (x *exchange) abort() {
	x.rec.clientGone = true
	panic(http.ErrAbortHandler)
}

// waitForServer tries the first candidate once more that was not waited for because the
// call had an alternative, if all of these have failed: a wait is better than an error now.
func (x *exchange) waitForServer() (done bool) {
	last := len(x.failures) - 1
	i := slices.IndexFunc(x.failures[:last], func(f *attempt.Failure) bool { return f.Next == backend.Retry })
	if i < 0 || x.failures[last].InvalidRequest() {
		return false
	}
	server := x.candidates[slices.IndexFunc(x.candidates, func(c plan.Candidate) bool { return c.Local && c.Name == x.failures[i].Backend })]
	if x.mayHaveBilled() { // then no other backend may continue its answer
		x.candidates = x.candidates[:1]
	}
	a, failed := attempt.Start(x.ctx, x.params(server, x.request, backend.Alternative{}))
	if failed != nil {
		x.failed(server, failed)
		return false
	}
	x.answered(server, a)
	return true
}

// mayHaveBilled says whether a metered backend may have generated something for the call.
func (x *exchange) mayHaveBilled() bool {
	return slices.ContainsFunc(x.past, plan.Attempted.MayHaveBilled)
}

// deliver commits to an answer and passes it on. next is who could continue a stream; nil
// = no other backend can.
func (x *exchange) deliver(a *attempt.Answer, next *resumption) {
	defer a.Close()
	rec := &x.rec
	rec.firstAnswer = a.First.Sub(x.request.Began)
	rec.status = a.Status()
	rec.usage, rec.reserved = a.Usage, a.Reserved
	h := x.w.Header()
	backend.CopyAnswerHeaders(h, a.Header())
	h.Set(wire.HeaderBackend, rec.backend)
	if rec.reason != "" {
		h.Set(wire.HeaderReason, string(rec.reason))
	}
	if !a.IsStream() && a.Rest == nil { // all of it is here: the backend does not wait for the client
		a.Lease.Release(backend.WithAnswer)
	}
	err := x.relay(a, next)
	switch {
	case err == nil:
		a.Lease.Release(backend.WithAnswer)
	case x.ctx.Err() != nil || !errors.Is(err, errTruncated):
		x.abort()
	default:
		rec.truncated = err
		// The client must not take what it has for the whole: an HTTP/1 body that is
		// aborted has no end. net/http closes the connection for this panic.
		panic(http.ErrAbortHandler)
	}
}

// Refuse answers a call with an error of llmsup's own.
func (x *exchange) refuse(e wire.Error) {
	x.rec.status, x.rec.code = e.Status, e.Code
	if x.rec.reason != "" {
		x.w.Header().Set(wire.HeaderReason, string(x.rec.reason))
	}
	wire.WriteError(x.w, x.request.Dialect, e)
}
