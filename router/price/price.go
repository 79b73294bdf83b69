// Package price is what models cost: the prices that an upstream lists, that the
// configuration has instead, or that are built in. It fetches the upstreams' lists, too.
//
// The router's accounting calls it for the cost of a call, for the savings of a local
// one, and for what a budget reserves; the daemon opens the lists and keeps them fresh.
// The package records no call, and knows no budget.
package price

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/usd"
)

// Price is USD per token or per call, in attodollars (1e-18 USD). A price per million
// tokens with twelve decimal places is exact, so that a cost is rounded only once.
type Price int64

const (
	scale = 18
	// attoPerPico is how many units of Price are one of usd.Amount.
	attoPerPico = 1_000_000
)

// Parse reads a price in USD, for example 0.00000015 or 1.5e-7.
func Parse(s string) (Price, error) {
	n, err := usd.ParseScaled(s, scale)
	if err != nil {
		return 0, fmt.Errorf("%.40q %w", s, err)
	}
	return Price(n), nil
}

// UnmarshalText reads a price in the configuration.
func (p *Price) UnmarshalText(text []byte) (err error) {
	*p, err = Parse(string(text))
	return err
}

// UnmarshalJSON reads a price as upstreams write it: a string or a number.
func (p *Price) UnmarshalJSON(raw []byte) error {
	if len(raw) > 1 && raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	return p.UnmarshalText(raw)
}

// MarshalJSON writes a string, as OpenRouter does.
func (p Price) MarshalJSON() ([]byte, error) {
	digits := fmt.Sprintf("%0*d", scale+1, p)
	whole, fraction := digits[:len(digits)-scale], strings.TrimRight(digits[len(digits)-scale:], "0")
	return fmt.Appendf(nil, `"%s"`, strings.TrimSuffix(whole+"."+fraction, ".")), nil
}

// PerMillion returns a price per million tokens, in USD.
func (p Price) PerMillion() float64 { return float64(p) / 1e12 }

// Prices are the prices of a model. A model with an unknown price is in no Table.
type Prices struct {
	Prompt     Price  `json:"prompt" yaml:"prompt"`                     // USD per token
	Completion Price  `json:"completion" yaml:"completion"`             // USD per token
	Cached     *Price `json:"cached,omitempty" yaml:"cached,omitempty"` // USD per cached prompt token; nil = as Prompt
	Request    Price  `json:"request,omitempty" yaml:"request"`         // USD per call
}

// Table is the prices of an upstream's models, by its names for them.
type Table map[string]Prices

// Tokens is the usage of a call, or its estimate. Prompt includes the cached tokens, as
// with OpenAI; Anthropic counts them apart.
type Tokens struct{ Prompt, Cached, Completion int64 }

// Cost returns the cost of a call, rounded to the picodollar. It is unknown if the tokens
// are not plausible.
func (p Prices) Cost(t Tokens) (cost usd.Amount, known bool) {
	if t.Prompt < 0 || t.Cached < 0 || t.Completion < 0 || t.Cached > t.Prompt {
		return 0, false
	}
	cached := p.Prompt
	if p.Cached != nil {
		cached = *p.Cached
	}
	var hi, lo uint64
	for _, term := range []struct {
		price  Price
		number int64
	}{{p.Prompt, t.Prompt - t.Cached}, {cached, t.Cached}, {p.Completion, t.Completion}, {p.Request, 1}, {1, attoPerPico / 2}} {
		h, l := bits.Mul64(uint64(term.price), uint64(term.number))
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi, _ = bits.Add64(hi, h, carry) // five products of 126 bits do not overflow it
	}
	if hi >= attoPerPico {
		return 0, false
	}
	n, _ := bits.Div64(hi, lo, attoPerPico)
	if n > uint64(usd.Max) {
		return 0, false
	}
	return usd.Amount(n), true
}

// ErrNoPrices is the error of ParseModels for a list without prices. Most upstreams have
// one, except OpenRouter.
var ErrNoPrices = errors.New("no price")

// ParseModels reads the answer of an upstream's /models in OpenRouter's form: all models, in
// its order, and their prices in USD per token. The table lacks models
// without a price for prompt or completion, or with a negative one ("it depends", as for
// openrouter/auto): their cost is unknown before they are called. With ErrNoPrices, listed
// is valid.
func ParseModels(raw []byte) (listed []models.Listed, prices Table, err error) {
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	raw = bytes.ToValidUTF8(raw, []byte("\uFFFD")) // as encoding/json writes it to the file
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, nil, fmt.Errorf("the list of models is not JSON in the expected form: %w", err)
	}
	prices = Table{}
	shared := sharedWords{}
	for _, raw := range list.Data {
		m := gjson.ParseBytes(raw)
		model := parseListed(m)
		if model.ID == "" { // skip only this one
			continue
		}
		shared.shareAll(&model)
		listed = append(listed, model)
		if p, ok := parsePricing([]byte(m.Get("pricing").Raw)); ok {
			prices[model.ID] = p
		}
	}
	if len(prices) == 0 {
		return listed, nil, fmt.Errorf("the list of models has %d models and %w", len(list.Data), ErrNoPrices)
	}
	return listed, prices, nil
}

func parsePricing(raw json.RawMessage) (Prices, bool) {
	var pricing struct {
		Prompt     *Price `json:"prompt"`
		Completion *Price `json:"completion"`
		Cached     *Price `json:"input_cache_read"`
		Request    *Price `json:"request"`
	}
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, &pricing) != nil {
		return Prices{}, false
	}
	if pricing.Prompt == nil || pricing.Completion == nil {
		return Prices{}, false
	}
	prices := Prices{Prompt: *pricing.Prompt, Completion: *pricing.Completion, Cached: pricing.Cached}
	if pricing.Request != nil {
		prices.Request = *pricing.Request
	}
	return prices, true
}
