// Package price knows what models cost: what an upstream lists, what the
// configuration says instead, and what is built in where neither does. The
// router's books (what a call cost, what local saved, what a budget has to set
// aside) ask it; the daemon fills it.
package price

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/llmsup/llmsup/router/usd"
)

// Price is USD a token or a call, in attodollars (1e-18 USD): fine enough for a
// price a million tokens with twelve decimal places, so that a product with any
// number of tokens is rounded once, at its end.
type Price int64

const (
	scale = 18
	// attoPerPico is how many of the units here are one of usd's.
	attoPerPico = 1_000_000
)

// Parse reads a price in USD, as in 0.00000015 or 1.5e-7.
func Parse(s string) (Price, error) {
	n, err := usd.ParseScaled(s, scale)
	if err != nil {
		return 0, fmt.Errorf("%.40q %w", s, err)
	}
	return Price(n), nil
}

// UnmarshalText reads a scalar of the configuration.
func (p *Price) UnmarshalText(text []byte) (err error) {
	*p, err = Parse(string(text))
	return err
}

// UnmarshalJSON reads a price as upstreams write it: in quotes, or as a number.
func (p *Price) UnmarshalJSON(raw []byte) error {
	if len(raw) > 1 && raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	return p.UnmarshalText(raw)
}

// MarshalJSON writes it as upstreams do.
func (p Price) MarshalJSON() ([]byte, error) {
	digits := fmt.Sprintf("%0*d", scale+1, p)
	whole, fraction := digits[:len(digits)-scale], strings.TrimRight(digits[len(digits)-scale:], "0")
	return fmt.Appendf(nil, `"%s"`, strings.TrimSuffix(whole+"."+fraction, ".")), nil
}

// Prices are what a model costs. All of them are known: a model of which less is
// known is in no Table.
type Prices struct {
	Prompt     Price  `json:"prompt" yaml:"prompt"`                     // USD a token
	Completion Price  `json:"completion" yaml:"completion"`             // USD a token
	Cached     *Price `json:"cached,omitempty" yaml:"cached,omitempty"` // USD a prompt token that was cached; nil = as any
	Request    Price  `json:"request,omitempty" yaml:"request"`         // USD a call, whatever its tokens
}

// Table has the models of one upstream, by the names that it knows them by.
type Table map[string]Prices

// Tokens is what a call used, or is expected to. Prompt counts the cached ones
// too, as OpenAI does and Anthropic does not.
type Tokens struct{ Prompt, Cached, Completion int64 }

// Cost returns what a call with as many tokens costs, rounded to the picodollar.
// It is not known where the tokens make no sense.
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
		hi, _ = bits.Add64(hi, h, carry) // five products of 63 bits each don't fill it
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

// ErrNoPrices is what ParseModels says of a list without any, as most upstreams but
// OpenRouter have.
var ErrNoPrices = errors.New("no price")

// ParseModels reads the answer of an upstream's /models, as OpenRouter writes it:
// the names of all models, in its order, and the prices, USD a token, in quotes. A
// model without a prompt's and a completion's price, or with one below 0 ("it
// depends", as OpenRouter's own router has), has no prices in the table: what it
// costs is not known before it is paid for. With ErrNoPrices the names are good.
func ParseModels(raw []byte) (names []string, prices Table, err error) {
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, nil, fmt.Errorf("the list of models is no JSON of the known form: %w", err)
	}
	prices = Table{}
	for _, raw := range list.Data {
		var model struct {
			ID      string          `json:"id"`
			Pricing json.RawMessage `json:"pricing"`
		}
		if json.Unmarshal(raw, &model) != nil || model.ID == "" { // one that is strange takes no others with it
			continue
		}
		names = append(names, model.ID)
		if p, ok := parsePricing(model.Pricing); ok {
			prices[model.ID] = p
		}
	}
	if len(prices) == 0 {
		return names, nil, fmt.Errorf("the list of models names %d models and %w", len(list.Data), ErrNoPrices)
	}
	return names, prices, nil
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
