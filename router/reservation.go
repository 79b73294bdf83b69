package router

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// reservation is what one attempt at a paid backend may cost: reserved within the
// budget before the attempt, settled or canceled once, when it is over. What the
// backend sends meanwhile is observed, since its own figures may be missing or
// wrong. A nil reservation is of an attempt that costs nothing.
type reservation struct {
	call    *call
	step    step
	models  []string            // that may answer: the step's and those that the body names
	budget  *budget.Reservation // nil = nothing limits what the call may cost
	pending *ledger.Pending
	text    int64 // bytes of generated text that came
	seen    int64 // tokens that the text is taken for
	settled bool
}

// charge is what an attempt that may have been billed has cost.
type charge struct {
	cost    *usd.Amount // as billed, or tokens by price; nil = unknown
	charged usd.Amount  // what budgets count: the cost, or at least what was reserved
	pending *ledger.Pending
}

// reserve reserves what an attempt may cost, or says which limit is in the way.
func (c *call) reserve(s step) (*reservation, *budget.Exceeded) {
	if !c.pays(s) {
		return nil, nil
	}
	r := &reservation{call: c, step: s, models: c.modelsAt(s)}
	var exceeded *budget.Exceeded
	if r.budget, exceeded = c.books.Budget.Reserve(c.books.clock(), c.key, s.estimate); exceeded != nil {
		return nil, exceeded
	}
	if s.estimate > 0 {
		r.begin()
	}
	return r, nil
}

// begin writes down that the attempt is made.
func (r *reservation) begin() {
	c := r.call
	r.pending = c.books.Ledger.Begin(ledger.Row{
		Time: c.began, Request: c.id, Charged: &r.step.estimate,
		Dimensions: ledger.Dimensions{
			Key: c.key, Route: c.route, Model: c.body.Model, Backend: r.step.backend.name(), Served: r.step.model,
			Status: statusUnfinished, Stream: c.streams(), Paid: true, Partial: true,
		},
	})
}

// statusUnfinished is the status in the ledger of a call that was under way when
// llmsup was killed.
const statusUnfinished = 502

// cancel ends an attempt for which nothing can have been billed.
func (r *reservation) cancel() {
	if r != nil && !r.settled {
		r.settled = true
		r.budget.Cancel()
		r.pending.Cancel()
	}
}

// observe takes an event of the answer into account, or a whole answer.
func (r *reservation) observe(data []byte) {
	if r == nil || !wire.IsObject(data) {
		return
	}
	object := gjson.ParseBytes(data)
	if r.call.path == "/v1/responses" && object.Get("response").IsObject() {
		r.observeWhole(object.Get("response"))
		return
	}
	text, tokens := r.generated(object)
	r.text += text
	r.seen += tokens
}

// observeWhole takes a whole answer into account whose events were observed. Some of
// its text may have come in no delta.
func (r *reservation) observeWhole(answer gjson.Result) {
	if r != nil {
		text, tokens := r.generated(answer)
		r.text, r.seen = max(r.text, text), max(r.seen, tokens)
	}
}

// generated returns the bytes of an event's text, or a whole answer's, and the tokens
// that they are taken for.
func (r *reservation) generated(object gjson.Result) (text, tokens int64) {
	switch text = int64(generatedBytes(r.call.path, object)); {
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

// settle ends an attempt that may have been billed. complete says that the answer
// came to its end. A cost that the backend reported is taken as it is. Else the
// tokens of its usage are multiplied by the price; where the usage is missing, or
// the answer not complete, or the price unknown, no less is charged than was
// reserved.
func (r *reservation) settle(u wire.Usage, complete bool) charge {
	c := charge{cost: u.Cost, pending: r.pending}
	if r.settled {
		return c
	}
	r.settled = true
	if c.cost != nil {
		c.charged = *c.cost
	} else {
		tokens, known := r.tokens(u)
		amount, priced := mostExpensive(r.call.books.book(r.step.backend.name()), r.models, tokens)
		if amount == usd.Max { // no call costs that much: the usage is wrong
			amount, known = 0, false
		}
		if known && priced && complete {
			c.cost, c.charged = &amount, amount
		} else {
			c.charged = max(amount, r.step.estimate)
		}
	}
	r.budget.Settle(c.charged)
	return c
}

// tokens returns what was used: the most that the usage and the text that came
// say. known is false without a usage.
func (r *reservation) tokens(u wire.Usage) (t price.Tokens, known bool) {
	if t, known = u.Tokens(); known {
		// Some backends count cached tokens beside the prompt's, and some count none.
		t.Prompt, t.Completion = max(t.Prompt, 0), max(t.Completion, r.text/maxTokenBytes)
		t.Cached = min(max(t.Cached, 0), t.Prompt)
		return t, true
	}
	t = price.Tokens{Prompt: r.call.promptTokens(), Completion: r.seen}
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
// one model, and its price is known. More than usd.Most is usd.Most.
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
