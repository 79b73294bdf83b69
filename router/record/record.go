// Package record keeps what is known of a call. At its end the call becomes one row in the
// ledger, one line in the log, and some counts in the metrics. The router makes a Record for
// each call, fills it while the call runs, and writes it.
package record

import (
	"errors"
	"strings"
	"time"

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

// Record is what is known of a call. It never holds a prompt, an answer or a key. Only the
// call's goroutine uses it.
type Record struct {
	Request *request.Request
	Call    *inflight.Call
	Route   string
	Reason  backend.Reason // why the primary did not answer; "" = it did
	Detail  string         // the reason in plain text
	Wait    backend.Wait   // in queues, of all attempts together; the place is the first one that the call had
	Answer
	Resumed Resumed
	Costs
	Refused bool // another box has asked whether its call can begin here, and it cannot: it asks others, and this is no call

	localPrimary bool       // the route's primary is a local server
	Row          ledger.Row // set by RecordComplete or SettleAll
	recorded     bool       // Row is set, and is in the ledger
}

// Answer is what the client received.
type Answer struct {
	Backend     string // the backend that answered; "" = none did
	Model       string // the model's name there
	Local       bool   // a local server answered, or began an answer that another backend completed
	Status      int    // HTTP status; 0 = the client closed the connection before there was one
	Code        string // of llmsup's own error; "" = it sent none
	Usage       wire.Usage
	FirstAnswer time.Duration // from the call's arrival to commit; 0 = never
	Incomplete  error         // ErrClientGone, ErrCancelled, or how the answer broke after commit; nil = it did not
}

// Resumed is how another backend continued an answer that broke.
type Resumed struct {
	By          string     // that backend; "" = none
	Locally     bool       // it is a server
	FirstTokens int64      // of the first part
	Usage       wire.Usage // of the second part
}

// Costs are what a call costs, and what a local answer saves.
type Costs struct {
	Reserved *accounting.Reservation // for the answer; nil = it costs nothing
	Total    accounting.Total        // what the attempts cost
	LastCost *usd.Amount             // what the last attempt cost; nil = unknown

	accounting *accounting.Accounting
	settled    bool          // Reserved is settled
	baseline   plan.Baseline // the model whose cost a local answer saves
	savings    *usd.Amount   // what the route's fallback would have charged for a local answer; nil = unknown
}

// ErrClientGone and ErrCancelled are why an answer is incomplete though no backend failed.
var (
	ErrClientGone = errors.New("the client closed the connection")
	ErrCancelled  = errors.New("cancelled by an operator")
)

// StatusClientClosedRequest is nginx's status for a client that closed the connection
// before the answer: only the log, the metrics and the ledger have it. It is also that of a
// call that an operator cancelled. Clients do not repeat such a call, as they may after a 409
// or a 503.
const StatusClientClosedRequest = 499

// zeroCost is the cost of what costs nothing.
var zeroCost usd.Amount

// New returns the record of a call that has not been given to a backend yet.
func New(c *request.Request, p plan.Plan) Record {
	return Record{
		Request: c, Call: &inflight.Call{}, Route: p.Route.Name, Reason: p.Reason, Detail: p.Detail, localPrimary: p.LocalPrimary,
		Costs: Costs{LastCost: &zeroCost, accounting: p.Accounting, baseline: p.Baseline},
	}
}

// AddFailure records why an attempt failed. The first failure is the reason why the primary
// did not answer, and later ones are added to the detail.
func (rec *Record) AddFailure(f *attempt.Failure) {
	if rec.Reason == "" {
		rec.Reason, rec.Detail = f.Reason, f.LogMessage()
	} else {
		rec.AddDetail(f.LogMessage())
	}
}

// AddDetail adds an event of the call to its detail.
func (rec *Record) AddDetail(event string) {
	rec.Detail = strings.TrimPrefix(rec.Detail+"; "+event, "; ")
}

// Cancel records that an operator has cancelled the call.
func (rec *Record) Cancel() {
	rec.Incomplete = ErrCancelled
	rec.AddDetail(ErrCancelled.Error())
}

// endedByCaller reports whether the client or an operator ended the call.
func (rec *Record) endedByCaller() bool {
	return errors.Is(rec.Incomplete, ErrClientGone) || errors.Is(rec.Incomplete, ErrCancelled)
}

// truncated returns how the answer broke after commit; nil = it did not.
func (rec *Record) truncated() error {
	if rec.endedByCaller() {
		return nil
	}
	return rec.Incomplete
}

// outcome is how an answer ended, as a label of the metrics.
func (rec *Record) outcome() string {
	switch {
	case rec.endedByCaller():
		return "left"
	case rec.Incomplete != nil:
		return "cut"
	}
	return "whole"
}

// finalStatus is the status that log, metrics and ledger record.
func (rec *Record) finalStatus() int {
	if rec.endedByCaller() {
		return StatusClientClosedRequest
	}
	return rec.Status
}
