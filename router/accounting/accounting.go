package accounting

import (
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
)

// Accounting has what the router needs to price calls, to limit spending and to record
// calls. The zero value knows no prices, allows everything and records nothing.
type Accounting struct {
	Ledger *ledger.Ledger
	Budget *budget.Budget
	Prices Prices
	Now    func() time.Time // nil = a call counts for the day on which it came, as in the ledger
}

// timeOf returns when a call counts in the budgets.
func (a *Accounting) timeOf(r *request.Request) time.Time {
	if a.Now == nil {
		return r.Began
	}
	return a.Now()
}

// Prices has the present prices of upstreams' models. Book is called for each call, from
// any number of goroutines, and must not block.
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

// Attempt is what accounting needs to know of one call at one backend.
type Attempt struct {
	Backend  string     // its name
	Model    string     // the model's name there
	Metered  bool       // the backend bills answers
	Estimate usd.Amount // what the attempt may cost; 0 = nothing, or there is no limit
}

// Bills reports whether an attempt may cost money. Counting tokens is free at providers
// that bill everything else (Anthropic's API reference, "Token counting"; OpenAI's, "Get input token counts").
func (at Attempt) Bills(r *request.Request) bool {
	return at.Metered && !CountsTokens(r.Path)
}

// CountsTokens reports whether an endpoint counts the tokens of a request.
func CountsTokens(path string) bool {
	return path == "/v1/messages/count_tokens" || path == "/v1/responses/input_tokens"
}

// models returns the models that may answer the request: the attempt's, and those that the
// body names.
func (at Attempt) models(r *request.Request) []string {
	models := []string{at.Model}
	for _, choice := range r.Body.Choices {
		models = append(models, choice.Model)
	}
	return models
}
