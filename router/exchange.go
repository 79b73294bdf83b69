package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/collect"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/record"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/waiting"
	"github.com/llmsup/llmsup/router/wire"
)

// errTruncated is the error of a relay whose answer broke after its first part was sent.
// Any other error of a relay is about the client's connection.
var errTruncated = errors.New("the answer was truncated")

// exchange handles one call, from its plan to its record.
type exchange struct {
	rt      *Router
	w       http.ResponseWriter
	ctx     context.Context //nolint:containedctx // an exchange lives as long as its request
	cancel  context.CancelCauseFunc
	client  http.ResponseWriter // as net/http passed it
	request *request.Request
	plan    plan.Plan
	rec     record.Record

	early      *waiting.Stream    // the response, if it began while the call waited for a model; else nil
	candidates []plan.Candidate   // those of the plan that are not skipped
	deadline   time.Time          // for the primary's first answer, on whatever box; zero = it has not been asked, or the answer began in time and broke
	attempts   []plan.Attempted   // the attempts so far
	failures   []*attempt.Failure // those that the client's error lists
	refusals   []plan.Refusal     // of boxes that were asked, and where the call may still wait
}

// serve answers a call.
func (rt *Router) serve(w http.ResponseWriter, r *http.Request, c *request.Request, p plan.Plan) {
	x := &exchange{rt: rt, w: w, client: w, request: c, plan: p, candidates: plan.Kept(p.Candidates), rec: record.New(c, p)}
	x.ctx, x.cancel = context.WithCancelCause(r.Context())
	defer x.cancel(nil)
	rt.metrics.inflight.Inc()
	rt.inflight.Add(1)
	rt.calls.Add(1)
	x.enter()
	defer func() {
		x.finish() // first, so that no calls in flight means that all are recorded
		x.leave()
		x.countPaidInstead()
		rt.inflight.Add(-1)
		rt.metrics.inflight.Dec()
	}()
	if p.Rejection.Status != 0 {
		x.reject(p.Rejection)
		return
	}
	x.run()
}

// run tries one candidate after another, until one of them answers or none is left.
func (x *exchange) run() {
	x.addDemand()
	if !x.tryEach(0, x.next) && !x.waitForServer() {
		x.fail()
	}
}

// next gives the call to a candidate, unless the attempts so far rule that out.
func (x *exchange) next(i int) (done bool) {
	c := x.candidates[i]
	if !x.mayTry(c) {
		return false
	}
	if len(x.failures) > 0 {
		if done, mayTry := x.resumeWhole(i); !mayTry {
			return done
		}
	}
	return x.try(i, x.alternative(i))
}

// mayTry reports whether the call may be given to a candidate after the attempts so far.
func (x *exchange) mayTry(c plan.Candidate) bool {
	if len(x.attempts) == 0 {
		return true
	}
	on := func(reason backend.Reason) bool { return plan.FallsBackOn(x.plan.Route, reason) }
	switch plan.MayMoveOn(x.attempts, c, on, x.ctx.Err() != nil) {
	case plan.NoObstacle:
		return true
	case plan.ClientGone:
		if !x.isCancelled() {
			x.abort()
		}
	case plan.OutsideFallback:
		x.plan.FallbackBlocked = plan.NotInFallbackOn(x.attempts[len(x.attempts)-1].Reason)
	case plan.ContextTooSmall:
		x.rec.AddDetail(fmt.Sprintf("%s was skipped: its context has %d tokens", c.Name, c.Context()))
	case plan.LocalField, plan.InvalidRequest, plan.PaidTwice: // the client's error lists the failure
	}
	return false
}

// alternative returns for which reasons the call may move on from a candidate. A server
// that accepts no calls yet is no alternative to move to at once, and neither is a metered
// backend after a paid attempt.
func (x *exchange) alternative(i int) backend.Alternative {
	lastResort, modelUntil := x.candidates[i].LastResort, time.Time{}
	if wait := x.candidates[i].ModelWait; wait > 0 {
		modelUntil = time.Now().Add(wait)
	}
	if hop := x.plan.Hop; hop != nil { // the other box knows
		return backend.Alternative{Exists: hop.Moves, On: func(backend.Reason) bool { return true }, ModelUntil: modelUntil}
	}
	if x.candidates[i].MaxWait.Limited || x.hasBoxAfter(i) {
		return backend.Alternative{Exists: true, On: func(r backend.Reason) bool { return r != backend.Degraded || !lastResort }, ModelUntil: modelUntil}
	}
	route, primary := &x.plan.Route, x.candidates[i].Primary
	other := backend.Alternative{
		Exists: slices.ContainsFunc(x.candidates[i+1:], func(c plan.Candidate) bool { return !c.Returning && !(c.Metered && x.mayHaveBilled()) }),
		On:     func(reason backend.Reason) bool { return plan.FallsBackOn(*route, reason) },
	}
	if primary {
		other.ModelUntil = plan.WaitsUntil(*route, x.request.Began)
	}
	return other
}

// hasBoxAfter reports whether the primary on another box comes after a candidate: a call moves
// there for any reason.
func (x *exchange) hasBoxAfter(i int) bool {
	return x.candidates[i].Primary && slices.ContainsFunc(x.candidates[i+1:], func(c plan.Candidate) bool { return c.Primary && !c.Returning })
}

// timeLeft returns how long a candidate may take to its first answer. All boxes that have the
// primary share the route's time if a fallback comes after them. Otherwise each has all of it, from
// when the call's slot is expected there: the call has no better place to wait.
func (x *exchange) timeLeft(i int) time.Duration {
	c := x.candidates[i]
	switch {
	case !c.Primary:
		return x.plan.FallbackTimeout
	case !plan.HaveFallback(x.candidates[i+1:]):
		return x.plan.Route.Timeout + c.Wait
	case x.deadline.IsZero():
		return x.plan.Route.Timeout
	}
	return time.Until(x.deadline)
}

// params returns the parameters of an attempt at a candidate.
func (x *exchange) params(i int, r *request.Request, other backend.Alternative) attempt.Params {
	c, timeout := x.candidates[i], x.timeLeft(i)
	if c.Primary && x.deadline.IsZero() {
		x.deadline = time.Now().Add(timeout)
	}
	p := attempt.Params{
		Request: r, Backend: c.Backend, Model: c.Model, Estimate: c.Estimate, Accounting: x.plan.Accounting, Progress: x.rec.Call,
		Timeout: timeout, Idle: x.plan.IdleTimeout, Alternative: other, Log: x.rt.log,
	}
	if other.Exists {
		p.MaxWait = c.MaxWait
	}
	return p
}

// try gives the call to a candidate and, if it answers, passes the answer on.
func (x *exchange) try(i int, other backend.Alternative) (done bool) {
	c := x.candidates[i]
	a, failed := x.start(i, other)
	if failed != nil {
		if x.mayWaitAt(c, failed) {
			return false
		}
		if x.recordFailure(c, failed); x.isCancelled() {
			return false
		}
		if c.Primary && failed.OverContext { // the client's error is that of the largest context
			x.failures = slices.DeleteFunc(x.failures, func(f *attempt.Failure) bool { return f.OverContext })
		}
		x.failures = append(x.failures, failed)
		x.rec.AddFailure(failed)
		return false
	}
	x.relayAnswer(c, a)
	return true
}

// start gives the call to a candidate, and waits for its answer. If the response of a stream
// has begun, only a stream is an answer.
func (x *exchange) start(i int, other backend.Alternative) (*attempt.Answer, *attempt.Failure) {
	c := x.candidates[i]
	p := x.params(i, c.RequestOf(x.request), other)
	x.rec.Call.Try(c.Name, c.Model, c.Metered, x.reasonAt(c))
	if x.plan.Hop == nil && waiting.IsPossible(x.request) {
		p.KeepAlive = backend.KeepAlive{After: x.plan.KeepAliveAfter, Notify: x.keepAlive}
	}
	a, failed := attempt.Start(x.ctx, p)
	if failed == nil && x.early != nil && !a.IsStream() {
		return nil, a.Discard(c.Name, "answered a streaming call without a stream")
	}
	return a, failed
}

// reasonAt returns why the primary has not answered a call that a candidate gets.
func (x *exchange) reasonAt(c plan.Candidate) backend.Reason {
	if c.Primary {
		return ""
	}
	return x.rec.Reason
}

// keepAlive notifies the client of a stream that its call waits for a model, at this place in the
// queue. It begins the response: from then on an error is an event.
func (x *exchange) keepAlive(queue int) {
	if x.early == nil {
		x.rec.Wait.Place = cmp.Or(x.rec.Wait.Place, queue)
		x.addQueueHeader()
		x.early = waiting.Begin(x.w)
		x.w = x.early
	}
	x.early.Comment()
}

// relayAnswer records a candidate's answer, and passes it on.
func (x *exchange) relayAnswer(c plan.Candidate, a *attempt.Answer) {
	rec := &x.rec
	rec.Backend, rec.Model, rec.Local = c.Name, c.Model, c.Local
	x.deadline = time.Time{}
	x.addWait(c, a.Wait)
	if c.Primary && !c.OtherBox { // though it may not have been the first candidate
		rec.Reason = ""
	}
	if a.CompletedAtLimit {
		rec.AddDetail(rec.Backend + " lost the connection after the end of the text; the answer is complete")
	}
	x.rec.Call.Answer(rec.Reason, a.First.Sub(x.request.Began))
	var next *resumption
	if a.IsStream() {
		next = x.newResumption(c, a.Lease)
	}
	if next == nil || !x.canContinue(next.from) {
		a.Lease.Bind()
	}
	x.commit(a, next)
}

// recordFailure records a failed attempt.
func (x *exchange) recordFailure(c plan.Candidate, f *attempt.Failure) {
	x.rec.Total.Add(f.Charge)
	x.addWait(c, f.Wait)
	if f.Partial != nil {
		x.deadline = time.Time{}
	}
	tried := plan.Attempted{
		Primary: c.Primary, Local: c.Local, Metered: c.Metered, Phase: f.Phase, Reason: f.Reason,
		OverBudget: f.OverBudget != nil, Invalid: f.InvalidRequest(), LocalField: plan.RejectedLocalField(&f.Failure, c.RequestOf(x.request)),
	}
	if f.OverContext {
		tried.OverContext = c.Context()
	}
	x.attempts = append(x.attempts, tried)
	switch {
	case x.isCancelled():
		x.rec.LastCost = f.Charge.Amount()
	case x.ctx.Err() != nil:
		x.abort()
	default:
		x.rec.Call.Fail(f.Reason, f.ResponseStatus(), f.Charge.Amount(), f.Detail)
	}
}

// addWait records how long an attempt waited in a candidate's queue.
func (x *exchange) addWait(c plan.Candidate, w backend.Wait) {
	wait := &x.rec.Wait
	wait.Place = cmp.Or(wait.Place, w.Place)
	wait.Time += w.Time
	if w.ForModel > 0 {
		x.rt.metrics.modelWait.WithLabelValues(collect.LabelValue(c.Name)).Observe(w.ForModel.Seconds())
	}
}

// abort ends a call whose client has closed the connection, or that an operator cancelled after
// its answer began. A client that has closed only its sending side may still read, and must not
// receive net/http's empty 200.
func (x *exchange) abort() {
	if x.isCancelled() {
		x.rec.Cancel()
	} else {
		x.rec.Incomplete = record.ErrClientGone
	}
	panic(http.ErrAbortHandler)
}

// waitForServer asks again a server for which the call did not wait because it had another
// backend, once all others have failed: waiting is better than an error.
func (x *exchange) waitForServer() (done bool) {
	if x.isCancelled() || x.failures[len(x.failures)-1].InvalidRequest() {
		return false
	}
	i := x.notWaitedFor()
	if i < 0 {
		return false
	}
	server := x.candidates[i]
	x.deadline = time.Time{} // it has all of the route's time
	a, failed := x.start(i, backend.Alternative{})
	if failed != nil {
		x.recordFailure(server, failed)
		return false
	}
	x.relayAnswer(server, a)
	return true
}

// notWaitedFor returns the index of the first server from which the call moved on instead of waiting
// there; -1 = there is none.
func (x *exchange) notWaitedFor() int {
	for _, f := range x.failures[:len(x.failures)-1] {
		if f.Next == backend.Retry {
			return slices.IndexFunc(x.candidates, func(c plan.Candidate) bool { return c.Local && c.Name == f.Backend })
		}
	}
	return -1
}

// mayHaveBilled reports whether a metered backend may have generated something for the call.
func (x *exchange) mayHaveBilled() bool {
	return slices.ContainsFunc(x.attempts, plan.Attempted.MayHaveBilled)
}

// commit commits to an answer and passes it on. next can continue a stream that breaks; nil
// = no other backend can.
func (x *exchange) commit(a *attempt.Answer, next *resumption) {
	defer a.Close()
	rec := &x.rec
	rec.FirstAnswer = a.First.Sub(x.request.Began)
	rec.Status = a.Status()
	rec.Usage, rec.Reserved = a.Usage, a.Reserved
	h := x.w.Header()
	backend.CopyAnswerHeaders(h, a.Header())
	h.Set(wire.HeaderBackend, rec.Backend)
	x.addQueueHeader()
	if rec.Reason != "" {
		h.Set(wire.HeaderReason, string(rec.Reason))
	}
	if x.early != nil {
		x.early.AddTrailers()
	}
	if !a.IsStream() && a.Rest == nil { // the backend has finished, however slowly the client reads
		a.Lease.Release(backend.Completed)
	}
	err := x.relay(a, next)
	switch {
	case err == nil:
		a.Lease.Release(backend.Completed)
		if rec.Resumed.By == "" {
			a.MeasurePrompt(rec.Usage)
		}
	case x.ctx.Err() != nil || !errors.Is(err, errTruncated):
		x.abort()
	default:
		rec.Incomplete = err
		// The client must not take the truncated answer for a complete one. For this
		// panic net/http closes the connection without ending the body.
		panic(http.ErrAbortHandler)
	}
}
