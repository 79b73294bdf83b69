package price

import (
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/usd"
)

// listing is an answer of /models with all that was seen, and some that wasn't.
const listing = `{"data": [
	{"id": "openai/gpt-4o", "context_length": 128000, "pricing": {"prompt": "0.0000025", "completion": "0.00001", "request": "0", "image": "0.003613", "input_cache_read": "0.00000125", "web_search": "x"}},
	{"id": "a/numbers", "pricing": {"prompt": 1.5e-7, "completion": 6e-7}},
	{"id": "a/free:free", "pricing": {"prompt": "0", "completion": "0"}},
	{"id": "a/asks", "pricing": {"prompt": "0.000001", "completion": "0", "request": "0.005"}},
	{"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
	{"id": "a/half", "pricing": {"prompt": "0.000001"}},
	{"id": "a/null", "pricing": {"prompt": null, "completion": "1"}},
	{"id": "a/none"}, {"id": "a/nothing", "pricing": null}, {"id": "a/array", "pricing": []},
	{"id": "a/garbage", "pricing": {"prompt": "0.1$", "completion": "0.1"}},
	{"id": "a/bad-extra", "pricing": {"prompt": "0.1", "completion": "0.1", "request": "-1"}},
	{"id": "", "pricing": {"prompt": "0.1", "completion": "0.1"}}
]}`

func TestParseModels(t *testing.T) {
	listed, table, err := ParseModels([]byte(listing))
	if err != nil || len(table) != 4 {
		t.Fatalf("got %d models, %v: %v", len(table), err, table)
	}
	if want := 12; len(listed) != want || listed[0].ID != "openai/gpt-4o" {
		t.Errorf("got %d models, want %d: %+v", len(listed), want, listed)
	}
	for name, c := range map[string]struct {
		model  string
		tokens Tokens
		want   string // "" = not known
	}{
		"a call":            {"openai/gpt-4o", Tokens{Prompt: 1000, Completion: 500}, "0.0075"},
		"with cached ones":  {"openai/gpt-4o", Tokens{Prompt: 1000, Cached: 400, Completion: 500}, "0.007"},
		"one token":         {"a/numbers", Tokens{Prompt: 1}, "0.00000015"},
		"cached as any":     {"a/numbers", Tokens{Prompt: 10, Cached: 10}, "0.0000015"},
		"free":              {"a/free:free", Tokens{Prompt: 1e6, Completion: 1e6}, "0"},
		"by the call":       {"a/asks", Tokens{Prompt: 3}, "0.005003"},
		"depends":           {"openrouter/auto", Tokens{Prompt: 3}, ""},
		"not in the list":   {"a/none", Tokens{}, ""},
		"negative tokens":   {"a/free:free", Tokens{Prompt: -1}, ""},
		"more than all":     {"a/free:free", Tokens{Prompt: 1, Cached: 2}, ""},
		"too many to count": {"openai/gpt-4o", Tokens{Prompt: 1 << 62, Completion: 1 << 62}, ""},
		"above the most":    {"openai/gpt-4o", Tokens{Prompt: 4e9 + 1}, ""},
		"the most":          {"openai/gpt-4o", Tokens{Prompt: 4e9}, "10000"},
	} {
		got, known := NewPriceList(nil, table, nil).Cost(c.model, c.tokens)
		if known != (c.want != "") || known && got.String() != c.want {
			t.Errorf("%s: %s costs %s, %t; want %q", name, c.model, got, known, c.want)
		}
	}
	for _, bad := range []string{"", "{", "[]", "null", "{}", `{"data": []}`, `{"data": [{"id": "a"}]}`, `{"data": {"id": 1}}`} {
		if _, table, err := ParseModels([]byte(bad)); err == nil {
			t.Errorf("%q gives %v", bad, table)
		}
	}
}

// An unreadable entry does not affect the others.
func TestParseModelsPassesOver(t *testing.T) {
	const good = `{"id": "a", "pricing": {"prompt": "1e-6", "completion": "2e-6", "request": null, "input_cache_read": null}}`
	for _, bad := range []string{`{"id": 5, "pricing": {"prompt": "1", "completion": "1"}}`, `"a"`, `null`, `[]`, `{"id": "b", "pricing": []}`, `{"id": "b", "pricing": {"prompt": "x", "completion": "1"}}`} {
		_, table, err := ParseModels([]byte(`{"data": [` + bad + `,` + good + `]}`))
		if prices, ok := table["a"]; err != nil || len(table) != 1 || !ok || prices.Cached != nil || prices.Request != 0 {
			t.Errorf("beside %s: %v, %v", bad, table, err)
		}
	}
}

// A price keeps its digits whatever it is multiplied with.
func TestNoRoundingBeforeTheEnd(t *testing.T) {
	p := perMillion("0.123456789012", "0", "")
	if got, known := p.Cost(Tokens{Prompt: 1_000_000}); !known || got.String() != "0.123456789012" {
		t.Errorf("a million tokens cost %s, %t", got, known)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		cached := Price(random.Int64N(1e14))
		p := Prices{Prompt: Price(random.Int64N(1e14)), Completion: Price(random.Int64N(1e15)), Cached: &cached, Request: Price(random.Int64N(1e16))}
		u := Tokens{Prompt: random.Int64N(1e7), Completion: random.Int64N(1e6)}
		u.Cached = random.Int64N(u.Prompt + 1)
		want := new(big.Int)
		for price, n := range map[*big.Int]int64{
			big.NewInt(int64(p.Prompt)): u.Prompt - u.Cached, big.NewInt(int64(cached)): u.Cached,
			big.NewInt(int64(p.Completion)): u.Completion, big.NewInt(int64(p.Request)): 1, big.NewInt(1): attoPerPico / 2,
		} {
			want.Add(want, price.Mul(price, big.NewInt(n)))
		}
		want.Div(want, big.NewInt(attoPerPico))
		if got, known := p.Cost(u); !known || big.NewInt(int64(got)).Cmp(want) != 0 {
			t.Fatalf("%+v at %+v cost %d, %t; want %s", u, p, got, known, want)
		}
	}
}

func TestBook(t *testing.T) {
	one := func(prompt string) Table { return Table{"m": perMillion(prompt, "0", "")} }
	for name, c := range map[string]struct {
		list   *PriceList
		source Source
		want   string
	}{
		"all":          {NewPriceList(one("1"), one("2"), one("3")), Configured, "0.000001"},
		"no file":      {NewPriceList(nil, one("2"), one("3")), Listed, "0.000002"},
		"no network":   {NewPriceList(nil, nil, one("3")), BuiltIn, "0.000003"},
		"unknown":      {NewPriceList(Table{"x": {}}, Table{"y": {}}, nil), "", ""},
		"zero is free": {NewPriceList(one("0"), one("2"), nil), Configured, "0"},
	} {
		_, source, ok := c.list.Lookup("m")
		cost, known := c.list.Cost("m", Tokens{Prompt: 1})
		if source != c.source || ok != known || known != (c.want != "") || known && cost.String() != c.want {
			t.Errorf("%s: %q, cost %s, %t, %t", name, source, cost, ok, known)
		}
	}
}

// The built-in prices are for the built-in routes, but for one.
func TestBuiltIn(t *testing.T) {
	builtin := models.LoadBuiltin()
	wanted := map[string]bool{}
	for _, route := range builtin.Routes {
		if route.PrimaryModel != "" {
			wanted[route.PrimaryModel] = true
		}
	}
	for _, family := range builtin.Families {
		wanted[family.FallbackModel] = true
	}
	delete(wanted, "qwen/qwen-2.5-14b-instruct")
	table := BuiltInTable()
	for model := range wanted {
		if p, ok := table[model]; !ok || p.Prompt <= 0 || p.Completion <= p.Prompt || p.Cached != nil && *p.Cached >= p.Prompt {
			t.Errorf("%s has the built-in price %+v, %t", model, p, ok)
		}
	}
	if len(table) != len(wanted) {
		t.Errorf("%d built-in prices, want one for each of the %d models", len(table), len(wanted))
	}
	if _, err := time.Parse(time.DateOnly, BuiltInDate); err != nil {
		t.Error(err)
	}
}

func TestConfigured(t *testing.T) {
	var table Table
	decoder := yaml.NewDecoder(strings.NewReader("m:\n  prompt: 0.00000015\n  completion: 6e-7\n  cached: 0.000000075\n"))
	decoder.KnownFields(true)
	if err := decoder.Decode(&table); err != nil {
		t.Fatal(err)
	}
	if cost, known := NewPriceList(table, nil, nil).Cost("m", Tokens{Prompt: 2, Cached: 1, Completion: 1}); !known || cost.String() != "0.000000825" {
		t.Errorf("it costs %s, %t", cost, known)
	}
	for _, bad := range []string{"m: {prompt: -1}", "m: {prompt: 1$}", "m: {prompt: 10}", "m: {prompt: 'x'}"} {
		if err := yaml.Unmarshal([]byte(bad), &table); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// FuzzParseModels: what is taken over from an upstream survives the file, and
// gives costs that make sense.
func FuzzParseModels(f *testing.F) {
	f.Add([]byte(listing))
	f.Add([]byte(`{"data":[{"id":"a","pricing":{"prompt":"9.2","completion":"1e-18","request":"9"}}]}`))
	f.Add([]byte("{\"data\":[{\"id\":\"\xff\",\"pricing\":{\"prompt\":\"1\",\"completion\":\"1\"}}]}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, table, err := ParseModels(raw)
		if err != nil {
			return
		}
		kept, err := json.Marshal(table)
		if err != nil {
			t.Fatal(err)
		}
		var again Table
		if err := json.Unmarshal(kept, &again); err != nil || len(again) != len(table) {
			t.Fatalf("%s: %v", kept, err)
		}
		for model, p := range table {
			for _, tokens := range []Tokens{{}, {1, 0, 0}, {1000, 10, 100}, {1 << 62, 1 << 61, 1 << 62}} {
				cost, known := p.Cost(tokens)
				same, knownToo := again[model].Cost(tokens)
				if cost != same || known != knownToo || cost < 0 || cost > usd.Max {
					t.Fatalf("%s: %+v costs %d, %t; kept: %d, %t", model, tokens, cost, known, same, knownToo)
				}
			}
		}
	})
}
