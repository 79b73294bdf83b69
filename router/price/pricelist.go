package price

import "github.com/llmsup/llmsup/router/usd"

// Source is the origin of a price.
type Source string

// The sources, by priority.
const (
	Configured Source = "configuration"
	Listed     Source = "upstream"
	BuiltIn    Source = "built-in"
)

var sources = []Source{Configured, Listed, BuiltIn}

// PriceList is what an upstream's models cost, from all sources. It is immutable: a new list
// makes a new PriceList.
type PriceList struct {
	tables map[Source]Table
}

// NewPriceList combines the prices of the configuration, of the upstream's list and of the
// built-in table; each may be nil. A model has the prices of the first source that has it:
// prices of two sources are never mixed.
func NewPriceList(configured, listed, builtIn Table) *PriceList {
	return &PriceList{tables: map[Source]Table{Configured: configured, Listed: listed, BuiltIn: builtIn}}
}

// Lookup returns a model's prices and their source. A nil PriceList has none.
func (b *PriceList) Lookup(model string) (Prices, Source, bool) {
	if b == nil {
		return Prices{}, "", false
	}
	for _, source := range sources {
		if prices, ok := b.tables[source][model]; ok {
			return prices, source, true
		}
	}
	return Prices{}, "", false
}

// Cost returns the cost of a call; an unknown cost is not 0.
func (b *PriceList) Cost(model string, t Tokens) (cost usd.Amount, known bool) {
	prices, _, ok := b.Lookup(model)
	if !ok {
		return 0, false
	}
	return prices.Cost(t)
}
