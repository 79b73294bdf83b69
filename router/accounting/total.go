package accounting

import (
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// Total is what the attempts at a call have cost so far. The zero value is a cost of 0.
type Total struct {
	Paid    bool       // a metered backend may have billed
	Charged usd.Amount // what budgets count
	Pending []*ledger.Pending

	known   usd.Amount // the sum of the costs that are known
	unknown bool       // one of the costs is not
}

// Add adds the charge of an attempt; nil = nothing can have been billed.
func (t *Total) Add(c *Charge) {
	if c == nil {
		return
	}
	t.Paid = true
	t.Charged += c.Charged
	if c.Cost != nil {
		t.known += *c.Cost
	} else {
		t.unknown = true
	}
	if c.Pending != nil {
		t.Pending = append(t.Pending, c.Pending)
	}
}

// Cost returns what was billed; nil = unknown.
func (t *Total) Cost() *usd.Amount {
	if t.unknown {
		return nil
	}
	return new(t.known) // a copy: a pointer into t would keep the whole call in memory
}

// WouldCost returns what an upstream would charge for a usage; nil = unknown. Tokens that
// are cached here may not be cached there, so the full price applies.
func (a *Accounting) WouldCost(backend, model string, u wire.Usage) *usd.Amount {
	tokens, known := u.Tokens()
	if !known {
		return nil
	}
	amount, known := a.PriceList(backend).Cost(model, price.Tokens{Prompt: tokens.Prompt, Completion: tokens.Completion})
	if !known {
		return nil
	}
	return &amount
}
