package price

import "github.com/llmsup/llmsup/router/usd"

// Source is where a price comes from.
type Source string

// The sources, the weightiest first.
const (
	Configured Source = "configuration"
	Listed     Source = "upstream"
	BuiltIn    Source = "built-in"
)

var sources = []Source{Configured, Listed, BuiltIn}

// PriceList is what an upstream's models cost by all that is known. It does not
// change; with a new list comes a new book.
type PriceList struct {
	tables map[Source]Table
}

// NewPriceList joins what the configuration says, what the upstream lists and what is
// built in: a model's prices are those of the first that knows it. Each may be
// nil. Prices of two sources are never mixed.
func NewPriceList(configured, listed, builtIn Table) *PriceList {
	return &PriceList{tables: map[Source]Table{Configured: configured, Listed: listed, BuiltIn: builtIn}}
}

// Lookup returns a model's prices, and who says so. A nil Book knows none.
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

// Cost returns what a call costs. Where that is not known it is not 0 either.
func (b *PriceList) Cost(model string, t Tokens) (cost usd.Amount, known bool) {
	prices, _, ok := b.Lookup(model)
	if !ok {
		return 0, false
	}
	return prices.Cost(t)
}
