package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/price"
)

const money = `
keys:
  crawler: 6b3a000000000000000000000000000000000000000000000000000000000000
ledger: {keep: 30d}
budget:
  daily: 5
  monthly: 50.50
  per_key:
    crawler: {daily: 0.25}
upstreams:
  vllm: {base_url: "http://gpu:8000/v1"}
prices:
  openrouter:
    qwen/qwen-2.5-14b-instruct: {prompt: 1e-7, completion: 0.0000002}
  vllm:
    m: {prompt: 0, completion: 0, cached: 0, request: 0.001}
`

func TestAccounting(t *testing.T) {
	c := mustParse(t, money)
	if err := c.Resolve(noHeader); err != nil {
		t.Fatal(err)
	}
	if time.Duration(c.Ledger.Keep) != 30*24*time.Hour || Default().Ledger.Keep.String() != "400d" {
		t.Errorf("kept for %s", c.Ledger.Keep)
	}
	b := c.Budget.Config()
	if b.Daily.String() != "5" || b.Monthly.String() != "50.5" || b.PerKey["crawler"].Daily.String() != "0.25" || b.PerKey["crawler"].Monthly != nil {
		t.Errorf("allowed: %+v", b)
	}
	book := price.NewPriceList(c.PriceTable("openrouter"), nil, nil)
	if cost, known := book.Cost("qwen/qwen-2.5-14b-instruct", price.Tokens{Prompt: 10, Completion: 1}); !known || cost.String() != "0.0000012" {
		t.Errorf("it costs %s, %t", cost, known)
	}
	if cost, known := price.NewPriceList(c.PriceTable("vllm"), nil, nil).Cost("m", price.Tokens{Prompt: 10}); !known || cost.String() != "0.001" {
		t.Errorf("it costs %s, %t", cost, known)
	}
	if none := mustParse(t, "").Budget.Config(); none.Daily != nil || none.Monthly != nil || len(none.PerKey) > 0 {
		t.Errorf("by default %+v is allowed", none)
	}
}

func TestAccountingErrors(t *testing.T) {
	for text, want := range map[string]string{
		"ledger: {keep: long}": "f.yaml:1: wrong value; want a duration (examples: 24h, 7d, 2w)",
		"budget:\n  daily:":    "f.yaml:2: budget.daily: has no amount; set one in USD",
		"keys:\n  a: 6b3a000000000000000000000000000000000000000000000000000000000000\nbudget:\n  per_key:\n    a: {daily: 1, monthly: }": "f.yaml:5: budget.per_key.a.monthly: has no amount",
		"ledger: {keep: -1h}":                                   "f.yaml:1: wrong value; want a duration",
		"ledger: {keep: 1h2d}":                                  "f.yaml:1: wrong value; want a duration",
		"ledger: {keep: 1ns}":                                   "f.yaml:1: ledger.keep: 1ns is too short; use 0 or at least 1h",
		"ledger:\n  kept: 1d":                                   `f.yaml:2: unknown key "kept"; did you mean "keep"?`,
		"ledger: 400d":                                          "f.yaml:1: wrong kind of value; want keys and values",
		"budget:\n  daily: -5":                                  "f.yaml:2: wrong value; want an amount in USD between 0 and 10000 (examples: 5, 0.50)",
		"budget:\n  monthly: 50 USD":                            "f.yaml:2: wrong value; want an amount in USD",
		"budget:\n  daily: 20000":                               "f.yaml:2: wrong value; want an amount in USD",
		"budget:\n  weekly: 5":                                  `f.yaml:2: unknown key "weekly"; there are daily, monthly, per_key`,
		"budget:\n  per_key:\n    crawler: {daily: 1}":          `f.yaml:3: budget.per_key: there is no key "crawler"; keys has none`,
		"budget:\n  per_key:\n    sk-or-v1-secret: {daily: 1}":  `there is no key (not repeated, it may be a key)`,
		"budget:\n  per_key:\n    crawler: {dayly: 1}":          `f.yaml:3: unknown key "dayly"; did you mean "daily"?`,
		money + "  nobody:\n    m: {prompt: 0, completion: 0}":  `f.yaml:17: prices: there is no upstream "nobody"; there are openrouter, vllm`,
		"prices:\n  openrouter:\n    m: {prompt: 1e-6}":         "f.yaml:3: prices.openrouter.m.completion: is missing; set it in USD per token",
		"prices:\n  openrouter:\n    m:\n":                      "f.yaml:3: prices.openrouter.m.prompt: is missing",
		"prices:\n  openrouter:\n    m:\n      prompt: $1":      "f.yaml:4: wrong value; want a price in USD per token (examples: 0.0000025 or 2.5e-6",
		"prices:\n  openrouter:\n    m: {promt: 1e-6}":          `f.yaml:3: unknown key "promt"; did you mean "prompt"?`,
		"prices:\n  openrouter:\n    m: 1e-6":                   "f.yaml:3: wrong kind of value; want keys and values",
		"prices:\n  openrouter:\n    m: {prompt: 1}\n    m: {}": "f.yaml:4: the key \"m\" is there twice",
		"prices:\n  openrouter:\n    m: {prompt: 0, completion: 0.15}": "f.yaml:3: prices.openrouter.m.completion: is more than any token costs; prices are in USD per token: " +
			"2.50 USD per million tokens is 2.5e-6",
		strings.Replace(money, "{daily: 0.25}", "{}", 1): "f.yaml:9: budget.per_key.crawler: has no limit; set daily or monthly, in USD",
	} {
		c, err := Parse("f.yaml", []byte(text))
		if err == nil {
			err = c.Resolve(noHeader)
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q:\n%v\nwant %s", text, err, want)
		}
	}
}

func TestAccountingChanges(t *testing.T) {
	old := mustParse(t, money)
	next := mustParse(t, strings.NewReplacer(
		"keep: 30d", "keep: 0", "daily: 5\n", "daily: 6\n", "  monthly: 50.50\n", "", "{daily: 0.25}", "{daily: 0.5}", "request: 0.001", "request: 0.002",
	).Replace(money))
	want := []string{
		"ledger.keep: 0s", "budget.daily: 6 USD", "budget.monthly: limit removed", "budget of key crawler: changed", "prices of upstream vllm: changed",
	}
	if got := next.Changes(old); !slices.Equal(got, want) {
		t.Errorf("got %q,\nwant %q", got, want)
	}
	if got := mustParse(t, money).Changes(old); len(got) > 0 {
		t.Errorf("nothing has changed, but %q", got)
	}
}
