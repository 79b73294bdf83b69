package router

import (
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
)

// outlay is what one attempt at a backend that takes money may cost: set aside
// within the budget before the attempt, and booked when it is over. It is over
// once, by release or settle. nil = an attempt that costs nothing.
type outlay struct {
	book     *price.Book
	at       served
	excess   *excess
	estimate usd.Amount
	reserved *budget.Reservation
	over     bool
}

// setAside sets aside what an attempt may cost, or says which limit is in the way.
func (c *call) setAside(s step) (*outlay, *budget.Exceeded) {
	if !c.pays(s) {
		return nil, nil
	}
	o := &outlay{
		book: c.books.book(s.backend.name()), at: served{s.backend.name(), s.model}, excess: c.books.excess, estimate: s.estimate,
	}
	var exceeded *budget.Exceeded
	o.reserved, exceeded = c.books.Budget.Reserve(c.books.clock(), c.key, o.estimate)
	if exceeded != nil {
		return nil, exceeded
	}
	return o, nil
}

// release is the end of an attempt for which nobody can have been paid.
func (o *outlay) release() {
	if o != nil && !o.over {
		o.over = true
		o.reserved.Release()
	}
}

// settle is the end of an attempt of which this is known, whole if it is all. It
// returns what was paid: as the upstream says, else tokens by price; nil = nobody
// knows. Then the budget takes it for what was set aside: a limit has to hold in
// doubt, too.
func (o *outlay) settle(u usage, whole bool) *usd.Amount {
	cost := u.cost
	if tokens, known := u.tokens(); cost == nil && known && whole {
		if product, ok := o.book.Cost(o.at.model, tokens); ok {
			cost = &product
		}
	}
	if o.over {
		return cost
	}
	o.over = true
	if cost != nil {
		o.excess.learn(o.at, o.estimate, *cost)
		o.reserved.Settle(*cost)
	} else {
		o.reserved.Settle(o.estimate)
	}
	return cost
}
