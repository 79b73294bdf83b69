package router

import (
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
)

// Books are what the router needs to say what calls cost, to keep that within
// limits, and to write it down. The zero value knows nothing, allows everything
// and writes nothing.
type Books struct {
	Ledger *ledger.Ledger
	Budget *budget.Budget
	Prices Prices

	now func() time.Time // a test's clock; nil = time.Now
}

func (b *Books) clock() time.Time {
	if b.now == nil {
		return time.Now()
	}
	return b.now()
}

// Prices knows what the models of upstreams cost, by all that is known at the
// moment. It is asked for each call, from any number of goroutines, and must not
// wait for anything.
type Prices interface {
	// Book returns the prices of the upstream of that name; nil = none are known.
	Book(upstream string) *price.PriceList
}

// book returns the prices of an upstream; an empty book where nobody knows any.
func (b *Books) book(upstream string) *price.PriceList {
	if b.Prices == nil {
		return nil
	}
	return b.Prices.Book(upstream)
}
