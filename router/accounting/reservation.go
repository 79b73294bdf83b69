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

// Reservation is what one attempt at a metered backend may cost: reserved within the
// budget before the attempt, and settled or canceled once, when the attempt is over.
// What the backend sends meanwhile is observed, since the usage that the backend
// reports may be missing or wrong. A nil Reservation is of an attempt that costs
// nothing.
type Reservation struct {
	accounting *Accounting
	request    *request.Request
	attempt    Attempt
	models     []string            // that may answer
	budget     *budget.Reservation // nil = nothing limits what the call may cost
	pending    *ledger.Pending
	text       int64 // bytes of generated text that came
	seen       int64 // tokens that the text is taken for
	settled    bool
}

// Charge is what an attempt that may have been billed has cost.
type Charge struct {
	Cost    *usd.Amount // as billed, or tokens by price; nil = unknown
	Charged usd.Amount  // what budgets count: the cost, or at least what was reserved
	Pending *ledger.Pending
}

// Reserve reserves what an attempt may cost, and writes to the ledger's journal that it
// is made. It returns the limit that the attempt would exceed, if there is one.
func (a *Accounting) Reserve(r *request.Request, at Attempt) (*Reservation, *budget.Exceeded) {
	if !at.Bills(r) {
		return nil, nil
	}
	reserved := &Reservation{accounting: a, request: r, attempt: at, models: at.models(r)}
	var exceeded *budget.Exceeded
	if reserved.budget, exceeded = a.Budget.Reserve(a.Clock(), r.Key, at.Estimate); exceeded != nil {
		return nil, exceeded
	}
	if at.Estimate > 0 {
		reserved.begin()
	}
	return reserved, nil
}

// begin records that the attempt is made.
func (r *Reservation) begin() {
	q := r.request
	r.pending = r.accounting.Ledger.Begin(ledger.Row{
		Time: q.Began, Request: q.ID, Charged: &r.attempt.Estimate,
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

// Observe takes an event of the answer into account, or a whole answer.
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

// ObserveWhole takes a whole answer into account whose events were observed. Some of
// its text may have come in no delta.
func (r *Reservation) ObserveWhole(answer gjson.Result) {
	if r != nil {
		text, tokens := r.generated(answer)
		r.text, r.seen = max(r.text, text), max(r.seen, tokens)
	}
}

// generated returns the bytes of an event's text, or a whole answer's, and the tokens
// that they are taken for.
func (r *Reservation) generated(object gjson.Result) (text, tokens int64) {
	switch text = int64(generatedBytes(r.request.Path, object)); {
	case text > wordBytes:
		tokens = text / textTokenBytes
	case text > 0:
		tokens = 1
	}
	return text, tokens
}

// An event of a stream with a text of up to wordBytes is taken for a token, since
// most backends send one at a time. A longer text has a token in textTokenBytes.
const (
	wordBytes      = 8
	textTokenBytes = 4
)

// maxTokenBytes is more than a token of usual text has, in bytes. A backend whose
// usage says fewer tokens than the text that came has at that size is not believed.
const maxTokenBytes = 16

// Settle ends an attempt that may have been billed. complete says that the answer
// came to its end. A cost that the backend reported is taken as it is. Else the
// tokens of its usage are multiplied by the price; where the usage is missing, or
// the answer not complete, or the price unknown, no less is charged than was
// reserved.
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
		if amount == usd.Max { // no call costs that much: the usage is wrong
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

// tokens returns what was used: the most that the usage and the text that came
// say. known is false without a usage.
func (r *Reservation) tokens(u wire.Usage) (t price.Tokens, known bool) {
	if t, known = u.Tokens(); known {
		// Some backends count cached tokens beside the prompt's, and some count none.
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

// mostExpensive returns what tokens cost at the most expensive of some models of a
// backend. A model of unknown price has unknownModelPrice. known says that there is
// one model, and its price is known. More than usd.Max is usd.Max.
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
