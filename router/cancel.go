package router

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// cancelledByOperator is what the log and the ledger say of a cancelled call.
const cancelledByOperator = "cancelled by an operator"

var errCancelled = errors.New(cancelledByOperator)

// cancelledError is the error of the client of a cancelled call. A retry would be cancelled, too.
var cancelledError = wire.Error{
	Status: statusClientClosedRequest, Type: wire.TypeInvalid, Code: wire.CodeCancelled, Definite: true, Message: "an operator cancelled this call",
}

// InFlight returns the calls in flight, and those that ended last.
func (rt *Router) InFlight() *inflight.Registry { return &rt.running }

// enter makes the call known. A request about a server is no call of a model.
func (x *exchange) enter() {
	c := x.request
	if c.Server {
		return
	}
	x.rec.call.Info = inflight.Info{
		Number: c.Number, Began: c.Began, Request: c.ID, Method: c.Method, Path: c.Path,
		Key: c.Key, Route: x.rec.route, Model: wire.Shorten(c.Body.Model), Stream: c.Body.Stream, FromBox: c.FromBox,
	}
	if x.plan.Reason != "" { // the primary is not asked
		f := x.plan.Bypassed()
		x.rec.call.Skip(f.Backend, f.Reason, f.Detail)
	}
	x.rt.running.Add(x.rec.call, x)
}

// leave removes the call, which has ended.
func (x *exchange) leave() {
	if !x.request.Server {
		x.rt.running.Remove(x.rec.call, &x.rec.row)
	}
}

// writeGrace is how long a client may take to receive the end of a cancelled call.
const writeGrace = time.Second

// CancelCall implements inflight.Canceler. The call's goroutine answers the client, unless that
// does not read what it is being sent.
func (x *exchange) CancelCall() {
	x.cancel(errCancelled)
	_ = http.NewResponseController(x.client).SetWriteDeadline(time.Now().Add(writeGrace)) // not every writer supports deadlines
}

// isCancelled reports whether an operator has cancelled the call.
func (x *exchange) isCancelled() bool {
	return x.ctx.Err() != nil && errors.Is(context.Cause(x.ctx), errCancelled)
}

// recordCancelled records that an operator has cancelled the call.
func (x *exchange) recordCancelled() {
	x.rec.cancelled = true
	x.rec.addDetail(cancelledByOperator)
}

// reasonAt returns why the primary has not answered a call that a candidate gets.
func (x *exchange) reasonAt(c plan.Candidate) backend.Reason {
	if c.Primary {
		return ""
	}
	return x.rec.reason
}

// costOf returns what an attempt cost; nil = unknown.
func costOf(c *accounting.Charge) *usd.Amount {
	if c == nil {
		return &zeroCost
	}
	return c.Cost
}
