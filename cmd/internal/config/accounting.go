package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config/units"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
)

// Ledger configures the record of what calls used and cost.
type Ledger struct {
	Enabled bool           `yaml:"enabled"` // false: nothing is recorded, and budgets start at zero at each start
	Keep    units.Duration `yaml:"keep"`    // how long the rows of calls are kept; 0 = for ever. The daily sums are always kept
}

// Budget limits spending, for all calls together and for single keys.
type Budget struct {
	Limits `yaml:",inline"`
	PerKey map[string]Limits `yaml:"per_key"` // by the key's name
}

// Limits limit the spending of a day and of a month (UTC). nil = no limit; 0 = no paid
// call.
type Limits struct {
	Daily   *Dollars `yaml:"daily"`
	Monthly *Dollars `yaml:"monthly"`
}

// Dollars is an amount of USD.
type Dollars usd.Amount

// ModelPrices are what a model costs.
type ModelPrices struct {
	Prompt     *Price `yaml:"prompt"`     // USD per token
	Completion *Price `yaml:"completion"` // USD per token
	Cached     *Price `yaml:"cached"`     // USD per cached token of the prompt; nil = as Prompt
	Request    *Price `yaml:"request"`    // USD per call, in addition; nil = 0
}

// Price is USD per token or per call.
type Price price.Price

// UnmarshalYAML reads an amount.
func (d *Dollars) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode || (*usd.Amount)(d).UnmarshalText([]byte(node.Value)) != nil {
		return &models.ValueError{Line: node.Line, Want: "an amount in USD between 0 and 10000 (examples: 5, 0.50)"}
	}
	return nil
}

func (d Dollars) String() string { return usd.Amount(d).String() + " USD" }

// UnmarshalYAML reads a price.
func (p *Price) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode || (*price.Price)(p).UnmarshalText([]byte(node.Value)) != nil {
		return &models.ValueError{Line: node.Line, Want: "a price in USD per token (examples: 0.0000025 or 2.5e-6 for 2.50 USD per million tokens)"}
	}
	return nil
}

// maxTokenPrice, in USD, is more than a token of any model costs: 10,000 USD per million
// tokens. A higher price was probably meant per million tokens.
var maxTokenPrice, _ = price.Parse("0.01") // it is valid

// minKeep is the shortest time for which rows of calls are kept. A shorter one probably
// has a wrong unit, and would delete them all.
const minKeep = units.Duration(time.Hour)

func (c *Config) validateAccounting() error {
	if keep := c.Ledger.Keep; keep != 0 && keep < minKeep {
		return c.positions.errorf([]string{"ledger", "keep"}, "%s is too short; use 0 or at least 1h", keep)
	}
	if err := c.validateBudget(c.Budget, c.positions); err != nil {
		return err
	}
	if c.Shared.Defines("budget") {
		if err := c.validateBudget(c.FleetBudget, c.Shared.config.positions); err != nil {
			return err
		}
	}
	return c.validateAllPrices()
}

// validateBudget checks a budget, which is at a file's positions.
func (c *Config) validateBudget(b Budget, file positions) error {
	limits := [][]string{{"budget"}}
	for _, name := range slices.Sorted(maps.Keys(b.PerKey)) {
		limits = append(limits, []string{"budget", "per_key", name})
	}
	for _, path := range limits {
		for _, key := range []string{"daily", "monthly"} {
			at := append(slices.Clone(path), key)
			if _, _, there := file.find(at); there && !file.has(at...) {
				return file.errorf(at, "has no amount; set one in USD (examples: 5, 0.50), or remove the line")
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.PerKey)) {
		path := []string{"budget", "per_key", name}
		if _, known := c.Keys[name]; !known {
			return file.errorfFor("budget.per_key", path, "there is no key %s; keys has %s", QuoteSafe(name), orNone(slices.Sorted(maps.Keys(c.Keys))))
		}
		if limits := b.PerKey[name]; limits.Daily == nil && limits.Monthly == nil {
			return file.errorf(path, "has no limit; set daily or monthly, in USD")
		}
	}
	return nil
}

func (c *Config) validateAllPrices() error {
	for _, name := range slices.Sorted(maps.Keys(c.Prices)) {
		if _, known := c.Upstreams[name]; !known {
			return c.positions.errorfFor("prices", []string{"prices", name}, "there is no upstream %s; there are %s", QuoteSafe(name), orNone(slices.Sorted(maps.Keys(c.Upstreams))))
		}
		for _, model := range slices.Sorted(maps.Keys(c.Prices[name])) {
			if err := c.validatePrices([]string{"prices", name, model}, c.Prices[name][model]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Config) validatePrices(path []string, p ModelPrices) error {
	for _, field := range []struct {
		key   string
		price *Price
		must  bool
	}{{"prompt", p.Prompt, true}, {"completion", p.Completion, true}, {"cached", p.Cached, false}} {
		at := append(slices.Clone(path), field.key)
		switch {
		case field.price == nil && field.must:
			return c.positions.errorf(at, "is missing; set it in USD per token, 0 if it costs nothing")
		case field.price != nil && price.Price(*field.price) > maxTokenPrice:
			return c.positions.errorf(at, "is more than any token costs; prices are in USD per token: 2.50 USD per million tokens is 2.5e-6")
		}
	}
	return nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Config returns the limits in the form of package budget.
func (b Budget) Config() budget.Config {
	config := budget.Config{Limits: b.amounts(), PerKey: map[string]budget.Limits{}}
	for name, limits := range b.PerKey {
		config.PerKey[name] = limits.amounts()
	}
	return config
}

func (l Limits) amounts() budget.Limits {
	return budget.Limits{Daily: (*usd.Amount)(l.Daily), Monthly: (*usd.Amount)(l.Monthly)}
}

// PriceTable returns the configured prices of an upstream's models. Call Validate first.
func (c *Config) PriceTable(upstream string) price.Table {
	table := price.Table{}
	for model, p := range c.Prices[upstream] {
		prices := price.Prices{Prompt: price.Price(*p.Prompt), Completion: price.Price(*p.Completion), Cached: (*price.Price)(p.Cached)}
		if p.Request != nil {
			prices.Request = price.Price(*p.Request)
		}
		table[model] = prices
	}
	return table
}

// accountingChanges describes how c differs from old.
func (c *Config) accountingChanges(old *Config) []string {
	var changes []string
	if c.Ledger.Keep != old.Ledger.Keep {
		changes = append(changes, "ledger.keep: "+c.Ledger.Keep.String())
	}
	changes = append(changes, budgetChanges("", old.Budget, c.Budget)...)
	changes = append(changes, budgetChanges("the fleet's ", old.FleetBudget, c.FleetBudget)...)
	return append(changes, compare("prices of upstream", old.Prices, c.Prices, func(a, b map[string]ModelPrices) bool {
		return maps.EqualFunc(a, b, func(a, b ModelPrices) bool {
			return equalOptional(a.Prompt, b.Prompt) && equalOptional(a.Completion, b.Completion) && equalOptional(a.Cached, b.Cached) && equalOptional(a.Request, b.Request)
		})
	})...)
}

// budgetChanges describes how a budget differs from the old one.
func budgetChanges(whose string, old, now Budget) (changes []string) {
	for _, limit := range []struct {
		key      string
		now, was *Dollars
	}{{"daily", now.Daily, old.Daily}, {"monthly", now.Monthly, old.Monthly}} {
		switch {
		case equalOptional(limit.now, limit.was):
		case limit.now == nil:
			changes = append(changes, fmt.Sprintf("%sbudget.%s: limit removed", whose, limit.key))
		default:
			changes = append(changes, fmt.Sprintf("%sbudget.%s: %s", whose, limit.key, limit.now))
		}
	}
	return append(changes, compare(whose+"budget of key", old.PerKey, now.PerKey, func(a, b Limits) bool {
		return equalOptional(a.Daily, b.Daily) && equalOptional(a.Monthly, b.Monthly)
	})...)
}

// equalOptional compares optional values.
func equalOptional[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
