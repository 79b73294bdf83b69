package router

import (
	"time"

	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/wire"
)

// InFlight returns the calls in flight, and those that ended last.
func (rt *Router) InFlight() *inflight.Registry { return &rt.running }

// enter makes the call known. A request about a server is no call of a model.
func (x *exchange) enter() {
	c := x.request
	if c.Server {
		return
	}
	x.rec.Call.Info = inflight.Info{
		Number: c.Number, Began: c.Began, Request: c.ID, Method: c.Method, Path: c.Path,
		Key: c.Key, Route: x.rec.Route, Model: wire.Shorten(c.Body.Model), Stream: c.Body.Stream, FromBox: c.FromBox,
	}
	if x.plan.Reason != "" { // the primary is not asked
		f := x.plan.Bypassed()
		x.rec.Call.Skip(f.Backend, f.Reason, f.Detail)
	}
	x.rt.running.Add(x.rec.Call, x)
}

// addDemand counts the call at the servers whose models are not loaded, and from which it goes
// elsewhere. One for which it waits counts it when that begins.
func (x *exchange) addDemand() {
	for _, server := range x.plan.Preferred {
		if x.candidates[0].Backend != server {
			server.AddDemand()
		}
	}
}

// finish records the call. A request about a server is no call of a model: it is only in the
// log. A call of another box is counted there.
func (x *exchange) finish() {
	if x.rec.SettleAll(); x.rec.Refused {
		return
	}
	duration := time.Since(x.request.Began)
	x.rec.Log(x.rt.log, duration)
	switch {
	case x.request.Server:
	case x.request.FromBox != "":
		x.rt.metrics.fromBoxes.Inc()
	default:
		x.rt.metrics.calls.Observe(&x.rec, duration)
	}
}

// leave removes the call, which has ended.
func (x *exchange) leave() {
	if !x.request.Server {
		x.rt.running.Remove(x.rec.Call, &x.rec.Row)
	}
}

// countPaidInstead counts a paid call for the servers that would have answered it.
func (x *exchange) countPaidInstead() {
	for _, server := range x.plan.Preferred {
		if x.rec.Total.Paid {
			server.CountPaidInstead(x.rec.Total.Charged)
		}
	}
}
