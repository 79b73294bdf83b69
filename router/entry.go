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
	if rec.concluded {
		return
	}
	rec.concluded = true
	if rec.reserved != nil {
		rec.settle(true)
	}
	rec.enter(false).Wait()
}

// finishBooks is the end of a call. A paid call that is not concluded was cut, or its
// client closed the connection: then tokens are those that were seen. A short answer,
// such as an error of llmsup's own, is sent after this has returned.
func (rec *record) finishBooks() {
	if rec.reserved != nil && !rec.concluded {
		rec.concluded = true
		rec.settle(false)
	}
	rec.enter(rec.left || rec.cut != nil).Wait()
}

// settle settles what the answer cost.
func (rec *record) settle(complete bool) {
	charge := rec.reserved.Settle(rec.paidUsage(), complete)
	rec.total.Add(&charge)
}

// paidUsage is what the one who was paid has used. Of an answer that was resumed
// that is a part.
func (rec *record) paidUsage() wire.Usage {
	if rec.resumedBy != "" {
		return rec.ofRest
	}
	return rec.usage
}

// enter writes the call into the ledger, once.
func (rec *record) enter(partial bool) *ledger.Receipt {
	if rec.entered {
		return nil
	}
	rec.entered = true
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
			Local: rec.local, LocalPrimary: rec.meant, Paid: rec.total.Paid, Resumed: rec.resumedBy != "", Partial: partial,
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
		row.Model = rec.modelOfNobody()
	}
	return rec.accounting.Ledger.Record(row, rec.total.Pending...)
}

// modelOfNobody is what stands for the model of a call that nobody answered: its
// name, if it is one of the table's. Of others there are as many as callers make up.
func (rec *record) modelOfNobody() string {
	if strings.Contains(rec.route, "*") {
		return rec.route
	}
	if rec.route == "" {
		return ""
	}
	return rec.request.Body.Model
}

// savings are what the route's fallback would have taken for what the GPU did;
// nil = nobody knows, or it did nothing.
func (rec *record) savings() *usd.Amount {
	if !rec.local || rec.spared.backend == "" || rec.status >= 400 {
		return nil
	}
	u := rec.usage
	if rec.resumedBy != "" {
		u.Completion = &rec.firstPart
	}
	return rec.accounting.WouldCost(rec.spared.backend, rec.spared.model, u)
}
