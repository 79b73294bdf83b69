package accounting

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// Reservation is what one attempt at a metered backend may cost: reserved within the budget
// before the attempt, and settled or cancelled once, when the attempt is over. The answer is
// observed meanwhile, since the usage that the backend reports may be missing or wrong. A
// nil Reservation is that of an attempt that costs nothing.
type Reservation struct {
	accounting *Accounting
	request    *request.Request
	attempt    Attempt
	models     []string            // the models that may answer
	budget     *budget.Reservation // nil = no budget limits the call
	pending    *ledger.Pending
	text       int64 // bytes of generated text received
	seen       int64 // estimated tokens of that text
	settled    bool
}

// Charge is what an attempt that may have been billed has cost.
type Charge struct {
	Cost    *usd.Amount // as billed, or tokens by price; nil = unknown
	Charged usd.Amount  // what budgets count: the cost, or at least what was reserved
	Pending *ledger.Pending
}

// nothing is the cost of an attempt that cannot have been billed.
var nothing usd.Amount

// Amount returns what an attempt cost; nil = unknown. Without a Charge it cost nothing.
func (c *Charge) Amount() *usd.Amount {
	if c == nil {
		return &nothing
	}
	return c.Cost
}

// Reserve reserves what an attempt may cost, and writes the attempt to the ledger's
// journal. It returns the limit that the attempt would exceed; nil = none.
func (a *Accounting) Reserve(r *request.Request, at Attempt) (*Reservation, *budget.Exceeded) {
	if !at.Bills(r) {
		return nil, nil
	}
	reserved := &Reservation{accounting: a, request: r, attempt: at, models: at.models(r)}
	var exceeded *budget.Exceeded
	if reserved.budget, exceeded = a.Budget.Reserve(a.timeOf(r), r.Key, at.Estimate); exceeded != nil {
		return nil, exceeded
	}
	if at.Estimate > 0 {
		reserved.begin()
	}
	return reserved, nil
}

// begin writes the attempt to the ledger's journal.
func (r *Reservation) begin() {
	q := r.request
	r.pending = r.accounting.Ledger.Begin(ledger.Row{
		Number: q.Number, Time: q.Began, Request: q.ID, Charged: new(r.attempt.Estimate),
		Dimensions: ledger.Dimensions{
			Key: q.Key, Route: q.Route, Model: q.Body.Model, Backend: r.attempt.Backend, Served: r.attempt.Model,
			Status: statusUnfinished, Stream: q.Body.Stream, Paid: true, Partial: true,
		},
	})
}

// statusUnfinished is the status in the ledger of a call that was under way when
// llmsup was killed.
const statusUnfinished = 502

// Cancel ends an attempt for which nothing can have been billed.
func (r *Reservation) Cancel() {
	if r != nil && !r.settled {
		r.settled = true
		r.budget.Cancel()
		r.pending.Cancel()
	}
}

// Observe counts the generated text of an event, or of a whole answer.
func (r *Reservation) Observe(data []byte) {
	if r == nil || !wire.IsObject(data) {
		return
	}
	object := gjson.ParseBytes(data)
	if r.request.Path == "/v1/responses" && object.Get("response").IsObject() {
		r.ObserveWhole(object.Get("response"))
		return
	}
	text, tokens := r.generated(object)
	r.text += text
	r.seen += tokens
}

// ObserveWhole counts the generated text of a whole answer whose events were observed. Some
// of its text may not have been in any delta.
func (r *Reservation) ObserveWhole(answer gjson.Result) {
	if r != nil {
		text, tokens := r.generated(answer)
		r.text, r.seen = max(r.text, text), max(r.seen, tokens)
	}
}

// generated returns the bytes of an event's or a whole answer's text, and their estimated
// tokens.
func (r *Reservation) generated(object gjson.Result) (text, tokens int64) {
	switch text = int64(generatedBytes(r.request.Path, object)); {
	case text > wordBytes:
		tokens = text / textTokenBytes
	case text > 0:
		tokens = 1
	}
	return text, tokens
}

// An event with up to wordBytes of text is counted as one token, since most backends send
// one token per event. Longer text is counted as one token per textTokenBytes.
const (
	wordBytes      = 8
	textTokenBytes = 4
)

// maxTokenBytes is more than a token of usual text has, in bytes. A reported usage is
// raised to at least one token per maxTokenBytes of received text.
const maxTokenBytes = 16

// Settle ends an attempt that may have been billed. complete is whether the answer is
// complete. A cost that the backend reported is used unchanged. Otherwise the cost is the
// usage times the price. If the usage is missing, the answer incomplete or the price
// unknown, at least the reserved amount is charged.
func (r *Reservation) Settle(u wire.Usage, complete bool) Charge {
	c := Charge{Cost: u.Cost, Pending: r.pending}
	if r.settled {
		return c
	}
	r.settled = true
	if c.Cost != nil {
		c.Charged = *c.Cost
	} else {
		tokens, known := r.tokens(u)
		amount, priced := mostExpensive(r.accounting.PriceList(r.attempt.Backend), r.models, tokens)
		if amount == usd.Max { // no call costs that much, so the usage is wrong
			amount, known = 0, false
		}
		if known && priced && complete {
			c.Cost, c.Charged = &amount, amount
		} else {
			c.Charged = max(amount, r.attempt.Estimate)
		}
	}
	r.budget.Settle(c.Charged)
	return c
}

// tokens returns the tokens used: the larger of the reported usage and the estimate from
// the received text. known is false without a reported usage.
func (r *Reservation) tokens(u wire.Usage) (t price.Tokens, known bool) {
	if t, known = u.Tokens(); known {
		// Some backends count cached tokens in addition to the prompt's.
		t.Prompt, t.Completion = max(t.Prompt, 0), max(t.Completion, r.text/maxTokenBytes)
		t.Cached = min(max(t.Cached, 0), t.Prompt)
		return t, true
	}
	t = price.Tokens{Prompt: promptTokensOf(r.request), Completion: r.seen}
	if u.Prompt != nil {
		t.Prompt = *u.Prompt
	}
	if u.Completion != nil {
		t.Completion = max(t.Completion, *u.Completion)
	}
	return t, false
}

// mostExpensive returns what tokens cost with the most expensive of a backend's models. A
// model of unknown price has unknownModelPrice. known is whether there is only one model,
// and its price is known. The amount is at most usd.Max.
func mostExpensive(prices *price.PriceList, models []string, t price.Tokens) (amount usd.Amount, known bool) {
	known = len(models) == 1
	for _, model := range models {
		p, _, ok := prices.Lookup(model)
		if !ok {
			p, known = unknownModelPrice, false
		}
		cost, ok := p.Cost(t)
		if !ok {
			cost = usd.Max
		}
		amount = max(amount, cost)
	}
	return amount, known
}
