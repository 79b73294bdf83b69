// Package accountingtest makes an accounting with a ledger, prices and limits for the
// tests of router and router/accounting.
package accountingtest

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
)

// PriceLists are Prices that do not change, by the upstream's name.
type PriceLists map[string]*price.PriceList

// Book implements accounting.Prices.
func (l PriceLists) Book(upstream string) *price.PriceList { return l[upstream] }

// Prices returns prices of the upstream openrouter: a dollar for a thousand prompt
// tokens, two for a thousand completion tokens, and a tenth for cached ones.
func Prices(models ...string) PriceLists {
	parse := func(s string) price.Price {
		p, err := price.Parse(s)
		if err != nil {
			panic(err)
		}
		return p
	}
	table, cached := price.Table{}, parse("0.0001")
	for _, model := range models {
		table[model] = price.Prices{Prompt: parse("0.001"), Completion: parse("0.002"), Cached: &cached}
	}
	return PriceLists{"openrouter": price.NewPriceList(table, nil, nil)}
}

// USD parses an amount, such as "0.25".
func USD(s string) usd.Amount {
	a, err := usd.Parse(s)
	if err != nil {
		panic(err)
	}
	return a
}

// Daily returns a limit for all calls of a day.
func Daily(s string) budget.Limits { return budget.Limits{Daily: new(USD(s))} }

// New makes an accounting that the test closes at its end.
func New(t testing.TB, limits budget.Limits) *accounting.Accounting {
	t.Helper()
	a := &accounting.Accounting{
		Ledger: ledger.Open(t.TempDir(), ledger.Options{Log: zerolog.Nop()}),
		Budget: budget.New(budget.Config{Limits: limits}, nil),
		Prices: Prices("openai/gpt-4o", "qwen/qwen-2.5-14b-instruct"),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := a.Ledger.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return a
}
