package router

import (
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// recordComplete records the call before the end of its answer is sent. When it returns, the
// call is in the ledger's journal: every completely received answer is in the ledger, even
// if llmsup is killed right afterwards.
func (rec *record) recordComplete() {
	if rec.settled {
		return
	}
	rec.settled = true
	if rec.reserved != nil {
		rec.settle(true)
	}
	rec.writeToLedger(false).Wait()
}

// settleAll settles and records a call at its end, unless recordComplete has done so. A
// paid answer that is not complete was truncated, or its client closed the connection: its
// tokens are then those that were seen. net/http sends a short answer, such as an error of
// llmsup's own, after settleAll has returned.
func (rec *record) settleAll() {
	if rec.reserved != nil && !rec.settled {
		rec.settled = true
		rec.settle(false)
	}
	rec.writeToLedger(rec.clientGone || rec.cancelled || rec.truncated != nil).Wait()
}

// settle settles the cost of the answer.
func (rec *record) settle(complete bool) {
	charge := rec.reserved.Settle(rec.paidUsage(), complete)
	rec.total.Add(&charge)
	rec.answerCost = charge.Cost
}

// paidUsage returns the usage of the metered backend. For a resumed answer that is its
// second part only.
func (rec *record) paidUsage() wire.Usage {
	if rec.resumedBy != "" {
		return rec.usageOfResume
	}
	return rec.usage
}

// writeToLedger writes the call into the ledger, once.
func (rec *record) writeToLedger(partial bool) *ledger.Receipt {
	if rec.recorded || rec.request.Server {
		return nil
	}
	rec.recorded = true
	if events := rec.call.Events.Load(); partial && rec.usage.Completion == nil && events > 0 {
		rec.usage.Completion = &events
	}
	rec.savings = rec.computeSavings()
	rec.row = rec.newRow(partial)
	if rec.request.FromBox != "" { // that box records the call
		return nil
	}
	return rec.accounting.Ledger.Record(rec.row, rec.total.Pending...)
}

// newRow returns the call's row.
func (rec *record) newRow(partial bool) ledger.Row {
	c := rec.request
	row := ledger.Row{
		Number: c.Number, Time: c.Began, Request: c.ID,
		Dimensions: ledger.Dimensions{
			Key: c.Key, Route: rec.route, Model: c.Body.Model, Backend: rec.backend, Served: rec.model,
			Reason: string(rec.reason), Status: rec.finalStatus(), Stream: c.Body.Stream,
			Local: rec.local, LocalPrimary: rec.localPrimary, Paid: rec.total.Paid, Resumed: rec.resumedBy != "", Partial: partial,
		},
		Prompt: rec.usage.Prompt, Cached: rec.usage.Cached, Completion: rec.usage.Completion,
		Cost: rec.total.Cost(), Saved: rec.savings,
		FirstAnswer: rec.firstAnswer, Duration: time.Since(c.Began), Wait: rec.wait.Time,
		Attempts: rec.call.End(rec.finalStatus(), rec.answerCost, rec.ending()),
	}
	if row.Cost == nil {
		row.Charged = new(rec.total.Charged)
	}
	if row.FirstAnswer > 0 {
		row.FirstAnswer = max(row.FirstAnswer, time.Millisecond) // 0 would mean that there was none
	}
	if rec.backend == "" || rec.status >= 400 {
		row.Model = rec.modelOfUnanswered()
	}
	return row
}

// ending returns how the last attempt ended, if its answer is not whole; else "".
func (rec *record) ending() string {
	switch {
	case rec.cancelled:
		return cancelledByOperator
	case rec.truncated != nil:
		return rec.truncated.Error()
	}
	return ""
}

// modelOfUnanswered returns the ledger's model for a call that no backend answered: the
// model if it is in the routing table, else its route's pattern. Clients may send any
// number of other names.
func (rec *record) modelOfUnanswered() string {
	if strings.Contains(rec.route, "*") {
		return rec.route
	}
	if rec.route == "" {
		return ""
	}
	return rec.request.Body.Model
}

// computeSavings returns what the route's fallback would have charged for a local answer; nil =
// unknown, or the answer is not local.
func (rec *record) computeSavings() *usd.Amount {
	if !rec.local || rec.baseline.Backend == "" || rec.status >= 400 {
		return nil
	}
	u := rec.usage
	if rec.resumedBy != "" && !rec.resumedLocally {
		u.Completion = new(rec.tokensBeforeResume)
	}
	return rec.accounting.WouldCost(rec.baseline.Backend, rec.baseline.Model, u)
}
