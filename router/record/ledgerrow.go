package record

import (
	"errors"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// RecordComplete records the call before the end of its answer is sent. When it returns, the
// call is in the ledger's journal: every completely received answer is in the ledger, even
// if llmsup is killed right afterwards.
func (rec *Record) RecordComplete() {
	if rec.settled {
		return
	}
	rec.settled = true
	if rec.Reserved != nil {
		rec.settle(true)
	}
	rec.writeToLedger(false).Wait()
}

// SettleAll settles and records a call at its end, unless RecordComplete has done so. A
// paid answer that is not complete was truncated, or its client closed the connection: its
// tokens are then those that were seen. net/http sends a short answer, such as an error of
// llmsup's own, after SettleAll has returned.
func (rec *Record) SettleAll() {
	if rec.Reserved != nil && !rec.settled {
		rec.settled = true
		rec.settle(false)
	}
	rec.writeToLedger(rec.Incomplete != nil).Wait()
}

// settle settles the cost of the answer.
func (rec *Record) settle(complete bool) {
	charge := rec.Reserved.Settle(rec.paidUsage(), complete)
	rec.Total.Add(&charge)
	rec.LastCost = charge.Cost
}

// paidUsage returns the usage of the metered backend. For a resumed answer that is its
// second part only.
func (rec *Record) paidUsage() wire.Usage {
	if rec.Resumed.By != "" {
		return rec.Resumed.Usage
	}
	return rec.Usage
}

// writeToLedger writes the call into the ledger, once.
func (rec *Record) writeToLedger(partial bool) *ledger.Receipt {
	if rec.recorded || rec.Request.Server {
		return nil
	}
	rec.recorded = true
	if events := rec.Call.Events.Load(); partial && rec.Usage.Completion == nil && events > 0 {
		rec.Usage.Completion = &events
	}
	rec.savings = rec.computeSavings()
	rec.Row = rec.newRow(partial)
	if rec.Request.FromBox != "" { // that box records the call
		return nil
	}
	return rec.accounting.Ledger.Record(rec.Row, rec.Total.Pending...)
}

// newRow returns the call's row.
func (rec *Record) newRow(partial bool) ledger.Row {
	c := rec.Request
	row := ledger.Row{
		Number: c.Number, Time: c.Began, Request: c.ID,
		Dimensions: ledger.Dimensions{
			Key: c.Key, Route: rec.Route, Model: c.Body.Model, Backend: rec.Backend, Served: rec.Model,
			Reason: string(rec.Reason), Status: rec.finalStatus(), Stream: c.Body.Stream,
			Local: rec.Local, LocalPrimary: rec.localPrimary, Paid: rec.Total.Paid, Resumed: rec.Resumed.By != "", Partial: partial,
		},
		Prompt: rec.Usage.Prompt, Cached: rec.Usage.Cached, Completion: rec.Usage.Completion,
		Cost: rec.Total.Cost(), Saved: rec.savings,
		FirstAnswer: rec.FirstAnswer, Duration: time.Since(c.Began), Wait: rec.Wait.Time,
		Attempts: rec.Call.End(rec.finalStatus(), rec.LastCost, rec.ending()),
	}
	if row.Cost == nil {
		row.Charged = new(rec.Total.Charged)
	}
	if row.FirstAnswer > 0 {
		row.FirstAnswer = max(row.FirstAnswer, time.Millisecond) // 0 would mean that there was none
	}
	if rec.Backend == "" || rec.Status >= 400 {
		row.Model = rec.modelOfUnanswered()
	}
	return row
}

// ending returns how the last attempt ended, if its answer is not whole; else "".
func (rec *Record) ending() string {
	if rec.Incomplete == nil || errors.Is(rec.Incomplete, ErrClientGone) {
		return ""
	}
	return rec.Incomplete.Error()
}

// modelOfUnanswered returns the ledger's model for a call that no backend answered: the
// model if it is in the routing table, else its route's pattern. Clients may send any
// number of other names.
func (rec *Record) modelOfUnanswered() string {
	if strings.Contains(rec.Route, "*") {
		return rec.Route
	}
	if rec.Route == "" {
		return ""
	}
	return rec.Request.Body.Model
}

// computeSavings returns what the route's fallback would have charged for a local answer; nil =
// unknown, or the answer is not local.
func (rec *Record) computeSavings() *usd.Amount {
	if !rec.Local || rec.baseline.Backend == "" || rec.Status >= 400 {
		return nil
	}
	u := rec.Usage
	if rec.Resumed.By != "" && !rec.Resumed.Locally {
		u.Completion = new(rec.Resumed.FirstTokens)
	}
	return rec.accounting.WouldCost(rec.baseline.Backend, rec.baseline.Model, u)
}
