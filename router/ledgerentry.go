package router

import (
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// conclude is called when all that is left to send of an answer is its end. When it
// returns, the call is in the ledger's journal: a client that has received the whole of
// an answer finds the call in the ledger, even if llmsup is killed right after that.
func (rec *record) conclude() {
	if rec.settled {
		return
	}
	rec.settled = true
	if rec.reserved != nil {
		rec.settle(true)
	}
	rec.writeToLedger(false).Wait()
}

// settleAll is the end of a call. A paid call that is not concluded was cut, or its
// client closed the connection: then tokens are those that were seen. A short answer,
// such as an error of llmsup's own, is sent after this has returned.
func (rec *record) settleAll() {
	if rec.reserved != nil && !rec.settled {
		rec.settled = true
		rec.settle(false)
	}
	rec.writeToLedger(rec.clientGone || rec.truncated != nil).Wait()
}

// settle settles what the answer cost.
func (rec *record) settle(complete bool) {
	charge := rec.reserved.Settle(rec.paidUsage(), complete)
	rec.total.Add(&charge)
}

// paidUsage is the usage of the metered backend: of an answer that was resumed that is a
// part.
func (rec *record) paidUsage() wire.Usage {
	if rec.resumedBy != "" {
		return rec.usageOfResume
	}
	return rec.usage
}

// writeToLedger writes the call into the ledger, once.
func (rec *record) writeToLedger(partial bool) *ledger.Receipt {
	if rec.recorded {
		return nil
	}
	rec.recorded = true
	if partial && rec.usage.Completion == nil && rec.seen > 0 {
		rec.usage.Completion = new(rec.seen)
	}
	rec.saved = rec.savings()
	c := rec.request
	if rec.accounting.Ledger == nil {
		return nil
	}
	row := ledger.Row{
		Time: c.Began, Request: c.ID,
		Dimensions: ledger.Dimensions{
			Key: c.Key, Route: rec.route, Model: c.Body.Model, Backend: rec.backend, Served: rec.model,
			Reason: string(rec.reason), Status: rec.finalStatus(), Stream: c.Body.Stream,
			Local: rec.local, LocalPrimary: rec.localPrimary, Paid: rec.total.Paid, Resumed: rec.resumedBy != "", Partial: partial,
		},
		Prompt: rec.usage.Prompt, Cached: rec.usage.Cached, Completion: rec.usage.Completion,
		Cost: rec.total.Cost(), Saved: rec.saved,
		FirstAnswer: rec.firstAnswer, Duration: time.Since(c.Began),
	}
	if row.Cost == nil {
		row.Charged = &rec.total.Charged
	}
	if row.FirstAnswer > 0 {
		row.FirstAnswer = max(row.FirstAnswer, time.Millisecond) // 0 would say that there was none
	}
	if rec.backend == "" || rec.status >= 400 {
		row.Model = rec.modelOfUnanswered()
	}
	return rec.accounting.Ledger.Record(row, rec.total.Pending...)
}

// modelOfUnanswered is what the ledger has for the model of a call that no backend
// answered: its name, if it is one of the table's. Clients make up any number of others.
func (rec *record) modelOfUnanswered() string {
	if strings.Contains(rec.route, "*") {
		return rec.route
	}
	if rec.route == "" {
		return ""
	}
	return rec.request.Body.Model
}

// savings are what the route's fallback would have taken for what the GPU did; nil =
// unknown, or the GPU did nothing.
func (rec *record) savings() *usd.Amount {
	if !rec.local || rec.baseline.Backend == "" || rec.status >= 400 {
		return nil
	}
	u := rec.usage
	if rec.resumedBy != "" {
		u.Completion = &rec.tokensBeforeResume
	}
	return rec.accounting.WouldCost(rec.baseline.Backend, rec.baseline.Model, u)
}
