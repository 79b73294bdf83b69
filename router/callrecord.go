package router

import (
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// record is what is known of a call at its end. It never holds a prompt, an answer or a
// key.
type record struct {
	request     *request.Request
	call        *inflight.Call
	route       string
	backend     string         // the backend that answered; "" = none did
	model       string         // the model's name there
	local       bool           // a local server answered, or began an answer that another backend completed
	reason      backend.Reason // why the primary did not answer; "" = it did
	detail      string         // the reason in plain text
	status      int            // HTTP status; 0 = the client closed the connection before there was one
	code        string         // of llmsup's own error; "" = it sent none
	usage       wire.Usage
	firstAnswer time.Duration // from the call's arrival to commit; 0 = never
	clientGone  bool          // the client closed the connection
	cancelled   bool          // an operator cancelled the call
	truncated   error         // the answer broke after commit
	wait        backend.Wait  // in queues, of all attempts together; the place is the first one that the call had

	resumedBy          string     // the backend that continued the answer; "" = none
	resumedLocally     bool       // that is a server
	tokensBeforeResume int64      // of the first part
	usageOfResume      wire.Usage // of the second part

	accounting   *accounting.Accounting
	localPrimary bool                    // the route's primary is a local server
	baseline     plan.Baseline           // the model whose cost a local answer saves
	reserved     *accounting.Reservation // for the answer; nil = it costs nothing
	settled      bool                    // reserved is settled
	total        accounting.Total        // what the attempts cost
	answerCost   *usd.Amount             // what the last attempt cost; nil = unknown
	savings      *usd.Amount             // what the route's fallback would have charged for a local answer; nil = unknown
	refused      bool                    // another box has asked whether its call can begin here, and it cannot: it asks others, and this is no call
	recorded     bool                    // row is set, and is in the ledger
	row          ledger.Row
}

// addFailure records why an attempt failed. The first failure is the reason why the primary
// did not answer, and later ones are added to the detail.
func (rec *record) addFailure(f *attempt.Failure) {
	if rec.reason == "" {
		rec.reason, rec.detail = f.Reason, f.LogMessage()
	} else {
		rec.addDetail(f.LogMessage())
	}
}

// addDetail adds an event of the call to its detail.
func (rec *record) addDetail(event string) {
	rec.detail = strings.TrimPrefix(rec.detail+"; "+event, "; ")
}

// newRecord returns the record of a call that has not been given to a backend yet.
func newRecord(c *request.Request, p plan.Plan) record {
	return record{
		call: &inflight.Call{}, answerCost: &zeroCost, request: c, route: p.Route.Name, reason: p.Reason, detail: p.Detail,
		localPrimary: p.LocalPrimary, baseline: p.Baseline, accounting: p.Accounting,
	}
}

// outcome is how an answer ended, as a label of the metrics.
func (rec *record) outcome() string {
	switch {
	case rec.clientGone, rec.cancelled:
		return "left"
	case rec.truncated != nil:
		return "cut"
	}
	return "whole"
}

// statusClientClosedRequest is nginx's status for a client that closed the connection
// before the answer: only the log, the metrics and the ledger have it. It is also that of a
// call that an operator cancelled. Clients do not repeat such a call, as they may after a 409
// or a 503.
const statusClientClosedRequest = 499

// zeroCost is the cost of what costs nothing.
var zeroCost usd.Amount

// finalStatus is the status that log, metrics and ledger record.
func (rec *record) finalStatus() int {
	if rec.clientGone || rec.cancelled {
		return statusClientClosedRequest
	}
	return rec.status
}

// finish records the call: one line in the log, one count in the metrics, and a row in the
// ledger, unless that has been written already. A request about a server is no call of a
// model: it is only in the log. A call of another box is recorded there.
func (rt *Router) finish(rec *record) {
	if rec.settleAll(); rec.refused {
		return
	}
	status := rec.finalStatus()
	line := rt.log.WithLevel(rec.logLevel(status)).
		Str("request_id", rec.request.ID).Str("path", rec.request.Path).Str("model", wire.Shorten(rec.request.Body.Model)).
		Str("backend", rec.backend).Str("reason", string(rec.reason)).Int("status", status)
	if rec.request.Key != "" {
		line.Str("key", rec.request.Key)
	}
	if rec.request.FromBox != "" {
		line.Str("from_box", rec.request.FromBox)
	}
	if rec.detail != "" {
		line.Str("detail", rec.detail)
	}
	if rec.code != "" {
		line.Str("code", rec.code)
	}
	if rec.usage.Prompt != nil {
		line.Int64("prompt_tokens", *rec.usage.Prompt)
	}
	if rec.usage.Completion != nil {
		line.Int64("completion_tokens", *rec.usage.Completion)
	}
	if rec.wait.Place > 0 {
		line.Int("queue", rec.wait.Place)
	}
	if rec.wait.Time >= time.Millisecond {
		line.Int64("wait_ms", rec.wait.Time.Milliseconds())
	}
	if rec.firstAnswer > 0 {
		line.Int64("first_ms", rec.firstAnswer.Milliseconds())
	}
	if rec.resumedBy != "" {
		line.Str("resumed_by", rec.resumedBy)
	}
	if rec.truncated != nil {
		line.Str("cut", rec.truncated.Error())
	}
	duration := time.Since(rec.request.Began)
	line.Int64("ms", duration.Milliseconds()).Msg("call")
	switch {
	case rec.request.Server:
	case rec.request.FromBox != "":
		rt.metrics.fromBoxes.Inc()
	default:
		rt.metrics.observe(rec, status, duration)
	}
}

// logLevel returns the level of the call's line in the log. Monitoring reads a server's state
// every few seconds, and its 503 says that no slot is free.
func (rec *record) logLevel(status int) zerolog.Level {
	switch {
	case rec.request.Server && rec.request.Method == http.MethodGet && rec.backend != "":
		return zerolog.DebugLevel
	case rec.truncated != nil, status >= http.StatusInternalServerError:
		return zerolog.WarnLevel
	}
	return zerolog.InfoLevel
}
