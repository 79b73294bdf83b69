package plan

import (
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// planEdited makes the plan of a call for the route model whose primary is qwen, and edits it.
func planEdited(t *testing.T, s *Routing, path, body string) (Plan, *request.Request) {
	t.Helper()
	b, err := request.ParseBodyFor(llamacpp.Engine{}.Capabilities(nil).Fields, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r := &request.Request{Path: path, Body: b}
	p := s.Plan("model")
	p.EditRequest(r)
	return p, r
}

// bodies returns the bodies that the candidates get, by their names.
func bodies(p Plan, r *request.Request) map[string]string {
	all := map[string]string{}
	for _, c := range p.Candidates {
		all[c.Name] = c.RequestOf(r).Body.Text()
	}
	return all
}

func TestEditRequest(t *testing.T) {
	s := newRouting(t, "ready", "ready", map[string]models.Route{"model": {
		Primary: "qwen", Edits: &models.Edits{Force: models.Parameters{"top_k": "40"}, Strip: []string{"user"}},
		Fallbacks: []models.Fallback{
			{To: "mini"},
			{To: "lan", Edits: &models.Edits{Strip: []string{}}},
			{To: "cloud", Edits: &models.Edits{Force: models.Parameters{}, Strip: []string{}}},
		},
	}})
	const sent = `{"model":"model","user":"u"}`
	p, r := planEdited(t, s, "/v1/chat/completions", sent)
	got := bodies(p, r)
	for name, want := range map[string]string{
		"qwen": `{"top_k":40,"model":"model"}`, "mini": `{"top_k":40,"model":"model"}`, "lan": `{"top_k":40,"model":"model","user":"u"}`, "cloud": sent,
	} {
		if got[name] != want {
			t.Errorf("%s gets %s, want %s", name, got[name], want)
		}
	}
	if p.Candidates[0].RequestOf(r) != p.Candidates[1].RequestOf(r) || p.Candidates[3].RequestOf(r) != r || r.Body.Text() != sent {
		t.Error("a body was copied that need not be")
	}
	p, r = planEdited(t, s, "/v1/messages/count_tokens", sent)
	for name, body := range bodies(p, r) {
		if body != sent {
			t.Errorf("the call for the number of tokens was edited for %s: %s", name, body)
		}
	}
}

// TestWaitCandidateIsEdited: a call that waits for a server because a budget excludes the
// other backend gets there edited, too.
func TestWaitCandidateIsEdited(t *testing.T) {
	s := newRouting(t, "ready", "loading", map[string]models.Route{"model": {
		Primary: "keyless", Fallbacks: []models.Fallback{{To: "mini"}, {To: "cloud"}}, Edits: &models.Edits{Strip: []string{"user"}},
	}}, withDailyBudget(t, "0.000001"))
	p, r := planEdited(t, s, "/v1/chat/completions", `{"model":"model","user":"u"}`)
	p.CheckBudget(r)
	if kept := Kept(p.Candidates); len(kept) != 1 || kept[0].Name != "mini" || kept[0].RequestOf(r).Body.Text() != `{"model":"model"}` {
		t.Errorf("candidates %q", names(p))
	}
}

func withDailyBudget(t *testing.T, amount string) func(*Config) {
	t.Helper()
	limit, err := usd.Parse(amount)
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config) {
		cfg.Accounting.Budget = budget.New(budget.Config{Limits: budget.Limits{Daily: &limit}}, nil)
	}
}

// TestEditedLocalField: whether a candidate would ignore a field that only llama-server knows
// depends on the call as this candidate gets it.
func TestEditedLocalField(t *testing.T) {
	grammar := &models.Edits{Force: models.Parameters{"grammar": `"root ::= [a]"`}}
	without := &models.Edits{Force: models.Parameters{}, Strip: []string{"grammar"}}
	for name, tc := range map[string]struct {
		route, fallback *models.Edits
		body            string
		want            string
	}{
		"none":                     {nil, nil, `{}`, "qwen cloud"},
		"forced":                   {grammar, nil, `{}`, "qwen"},
		"forced, not for cloud":    {grammar, without, `{}`, "qwen cloud"},
		"the client's":             {nil, nil, `{"grammar":"x"}`, "qwen"},
		"the client's, stripped":   {without, nil, `{"grammar":"x"}`, "qwen cloud"},
		"stripped for cloud alone": {nil, without, `{"grammar":"x"}`, "qwen cloud"},
	} {
		s := newRouting(t, "ready", "ready", map[string]models.Route{"model": {
			Primary: "qwen", Edits: tc.route, Fallbacks: []models.Fallback{{To: "cloud", Edits: tc.fallback}},
		}})
		p, r := planEdited(t, s, "/v1/chat/completions", tc.body)
		p.RequireLocalField(r)
		if got := names(p); got != tc.want {
			t.Errorf("%s: %s, want %s (%s)", name, got, tc.want, skipped(p))
		}
	}
}

// TestEditedBudget: what an answer may cost at a candidate is that of the call as this
// candidate gets it.
func TestEditedBudget(t *testing.T) {
	long := &models.Edits{Force: models.Parameters{"max_tokens": "1000000"}}
	short := &models.Edits{Force: models.Parameters{"max_tokens": "10"}}
	set := &models.Edits{Set: models.Parameters{"max_tokens": "1000000"}}
	for name, tc := range map[string]struct {
		route, fallback *models.Edits
		body            string
		over            bool
	}{
		"short":                       {nil, nil, `{"max_tokens":10}`, false},
		"long":                        {nil, nil, `{"max_tokens":1000000}`, true},
		"forced to be short":          {short, nil, `{"max_tokens":1000000}`, false},
		"forced to be long":           {long, nil, `{"max_tokens":10}`, true},
		"forced for the cloud":        {short, long, `{"max_tokens":10}`, true},
		"a default":                   {set, nil, `{}`, true},
		"a default that is not used":  {set, nil, `{"max_tokens":10}`, false},
		"many choices":                {&models.Edits{Force: models.Parameters{"n": "100000"}}, nil, `{"max_tokens":10}`, true},
		"long, and stripped":          {&models.Edits{Strip: []string{"max_tokens"}}, nil, `{"max_tokens":1000000}`, false},
		"another spelling is removed": {short, nil, `{"MAX_TOKENS":1000000}`, false},
	} {
		s := newRouting(t, "ready", "ready", map[string]models.Route{"model": {
			Primary: "qwen", Edits: tc.route, Fallbacks: []models.Fallback{{To: "cloud", Edits: tc.fallback}},
		}}, withDailyBudget(t, "1"))
		p, r := planEdited(t, s, "/v1/chat/completions", tc.body)
		p.CheckBudget(r)
		if over := p.OverBudget != nil; over != tc.over {
			t.Errorf("%s: over budget: %t", name, over)
		}
	}
}
