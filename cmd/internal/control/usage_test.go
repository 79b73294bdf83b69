package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

var november = time.Date(2026, 11, 1, 0, 0, 0, 1_500_000, time.UTC)

// Usage answers with its question.
func (source) Usage(_ context.Context, from, to time.Time, by string) (Usage, error) {
	if by == "route" {
		return Usage{}, errors.New("read the ledger: no such disk")
	}
	cost := USD(25_000_000_000_000_000) // more than a configured amount may be
	return Usage{From: from, To: to, Groups: []UsageGroup{{Name: by, Sums: Sums{Calls: 2, Paid: 2, Cost: &cost}}}}, nil
}

func TestUsage(t *testing.T) {
	c := NewClient(serve(t, NewHandler(source{}, "v1")))
	u, err := c.Usage(t.Context(), november, time.Time{}, "key")
	if err != nil || !u.From.Equal(november) || !u.To.IsZero() || u.Groups[0].Name != "key" || *u.Groups[0].Cost != 25_000_000_000_000_000 || u.Groups[0].Saved != nil {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := c.Usage(t.Context(), november, time.Time{}, "route"); err == nil || errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), "no such disk") {
		t.Errorf("a ledger that cannot be read: %v", err)
	}
	for query, want := range map[string]string{"since=yesterday": "since has to be a time", "until=1": "until has to be a time", "by=shoe": "by has to be one of model, backend"} {
		if resp, err := c.open(t.Context(), http.MethodGet, "/v1/usage?"+query); err == nil || !strings.Contains(err.Error(), want) {
			if err == nil {
				_ = resp.Body.Close()
			}
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestUsageJSON holds the JSON of usage: null for unknown values, amounts with
// all their digits, and the lists of the page where they were asked for.
func TestUsageJSON(t *testing.T) {
	cost, prompt := USD(825_000), int64(3)
	sums := Sums{Calls: 1, Paid: 1, Prompt: &prompt, Cost: &cost, UnknownSaved: 1}
	const wire = `"calls":1,"failed":0,"local":0,"paid":1,"resumed":0,"partial":0,"prompt_tokens":3,"cached_tokens":null,"completion_tokens":null,` +
		`"unknown_tokens":0,"cost_usd":0.000000825,"unknown_cost":0,"saved_usd":null,"unknown_saved":1`
	at := november.Truncate(time.Second)
	for name, tc := range map[string]struct {
		usage Usage
		want  string
	}{
		"by something": {Usage{From: at, To: at, Total: sums}, `{"from":"2026-11-01T00:00:00Z","to":"2026-11-01T00:00:00Z","total":{` + wire + `},"groups":[]}`},
		"the page": {
			Usage{From: at, To: at, Total: sums, Groups: []UsageGroup{{"m", sums}}, Reasons: []UsageGroup{}, Days: []UsageGroup{{"2026-11-01", sums}}, Incomplete: "slow"},
			`{"from":"2026-11-01T00:00:00Z","to":"2026-11-01T00:00:00Z","total":{` + wire + `},"groups":[{"name":"m",` + wire + `}],"reasons":[],` +
				`"days":[{"name":"2026-11-01",` + wire + `}],"incomplete":"slow"}`,
		},
	} {
		got, err := json.Marshal(tc.usage)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, tc.want)
		}
	}
}

func TestSumsAdd(t *testing.T) {
	one, two := USD(1), USD(2)
	for name, tc := range map[string]struct{ a, b, want *USD }{
		"both known": {&one, &one, &two}, "one known": {nil, &two, &two}, "the other": {&two, nil, &two}, "none": {nil, nil, nil},
	} {
		s := Sums{Calls: 1, Cost: tc.a}
		s.Add(Sums{Calls: 2, UnknownCost: 1, Cost: tc.b})
		if s.Calls != 3 || s.UnknownCost != 1 || (s.Cost == nil) != (tc.want == nil) || s.Cost != nil && *s.Cost != *tc.want {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if one != 1 || two != 2 {
		t.Error("what was added has changed")
	}
}
