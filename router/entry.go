package router

import (
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// nothing is what a call costs for which nobody is paid.
var nothing usd.Amount

// spend adds what an attempt that may have been billed has cost.
func (rec *record) spend(c charge) {
	rec.paid = true
	if rec.cost != nil && c.cost != nil {
		rec.cost = new(*rec.cost + *c.cost)
	} else {
		rec.cost = nil
	}
	rec.charged += c.charged
	if c.pending != nil {
		rec.pending = append(rec.pending, c.pending)
	}
}

// charge adds what a failed attempt may have cost.
func (rec *record) charge(f *failure) {
	if f != nil && f.charge != nil {
		rec.spend(*f.charge)
	}
}

// conclude is called when all that is left to send of an answer is its end. When it
// returns, the call is in the ledger's journal: a client that has received the whole of
// an answer finds the call in the ledger, even if llmsup is killed right after that.
func (rec *record) conclude() {
	if rec.concluded {
		return
	}
	rec.concluded = true
	if rec.reserved != nil {
		rec.spend(rec.reserved.settle(rec.paidUsage(), true))
	}
	rec.enter(false).Wait()
}

// finishBooks is the end of a call. A paid call that is not concluded was cut, or its
// client closed the connection: then tokens are those that were seen. A short answer,
// such as an error of llmsup's own, is sent after this has returned.
func (rec *record) finishBooks() {
	if rec.reserved != nil && !rec.concluded {
		rec.concluded = true
		rec.spend(rec.reserved.settle(rec.paidUsage(), false))
	}
	rec.enter(rec.left || rec.cut != nil).Wait()
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
	c := rec.call
	if c.books.Ledger == nil {
		return nil
	}
	row := ledger.Row{
		Time: c.began, Request: c.id,
		Dimensions: ledger.Dimensions{
			Key: c.key, Route: rec.route, Model: c.body.Model, Backend: rec.backend, Served: rec.model,
			Reason: string(rec.reason), Status: rec.finalStatus(), Stream: c.streams(),
			Local: rec.local, LocalPrimary: rec.meant, Paid: rec.paid, Resumed: rec.resumedBy != "", Partial: partial,
		},
		Prompt: rec.usage.Prompt, Cached: rec.usage.Cached, Completion: rec.usage.Completion,
		Cost: rec.cost, Saved: rec.saved,
		FirstAnswer: rec.firstAnswer, Duration: time.Since(c.began),
	}
	if rec.cost == nil {
		row.Charged = &rec.charged
	}
	if row.FirstAnswer > 0 {
		row.FirstAnswer = max(row.FirstAnswer, time.Millisecond) // 0 would say that there was none
	}
	if rec.backend == "" || rec.status >= 400 {
		row.Model = rec.modelOfNobody()
	}
	return c.books.Ledger.Record(row, rec.pending...)
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
	return rec.call.body.Model
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
	tokens, known := u.Tokens()
	if !known {
		return nil
	}
	saved, known := rec.call.books.book(rec.spared.backend).Cost(rec.spared.model, price.Tokens{
		Prompt: tokens.Prompt, Completion: tokens.Completion, // what is cached here need not be there
	})
	if !known {
		return nil
	}
	return &saved
}
