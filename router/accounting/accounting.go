package accounting

import (
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
)

// Accounting is what the router needs to know what calls cost, to keep that within
// limits, and to record it. The zero value knows no prices, allows everything and
// records nothing.
type Accounting struct {
	Ledger *ledger.Ledger
	Budget *budget.Budget
	Prices Prices
	Now    func() time.Time // nil = time.Now
}

// Clock returns the present time.
func (a *Accounting) Clock() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// Prices knows what the models of upstreams cost at the moment. It is asked for each
// call, from any number of goroutines, and must not block.
type Prices interface {
	// Book returns the prices of the upstream of that name; nil = none are known.
	Book(upstream string) *price.PriceList
}

// PriceList returns the prices of an upstream; nil = none are known.
func (a *Accounting) PriceList(upstream string) *price.PriceList {
	if a.Prices == nil {
		return nil
	}
	return a.Prices.Book(upstream)
}

// Attempt is one call at one backend, as far as it may cost money.
type Attempt struct {
	Backend  string     // its name
	Model    string     // the model's name there
	Metered  bool       // the backend bills what it answers
	Estimate usd.Amount // what the attempt may cost; 0 = nothing, or nothing limits it
}

// Bills says whether an attempt may cost money. Counting tokens is free at providers
// that bill everything else (Anthropic's API reference, "Token counting").
func (at Attempt) Bills(r *request.Request) bool {
	return at.Metered && r.Path != "/v1/messages/count_tokens"
}

// models returns the models that may answer a request at a backend: the attempt's, and
// those that the body names.
func (at Attempt) models(r *request.Request) []string {
	models := []string{at.Model}
	for _, choice := range r.Body.Choices {
		models = append(models, choice.Model)
	}
	return models
}
