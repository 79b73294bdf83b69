package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
)

// situation is what a plan depends on.
type situation struct {
	primary    string // the state of qwen, or the name of an upstream
	fallback   string // "" = none; several are separated by spaces
	mini       string // the state of the server mini; "" = ready
	on         string // the route's fallback_on; "" = all reasons
	freeOnly   bool   // the client's key may not spend money
	overBudget bool
	loadWait   models.WhileLoading
}

// plan returns the plan of a call in this situation.
func (c situation) plan(t *testing.T) Plan {
	t.Helper()
	state, primary := c.primary, "qwen"
	if localStates[state] == nil {
		state, primary = "ready", c.primary
	}
	route := models.Route{Primary: primary, Timeout: time.Minute, WhileLoading: c.loadWait}
	for to := range strings.FieldsSeq(c.fallback) {
		route.Fallbacks = append(route.Fallbacks, models.Fallback{To: to})
	}
	if c.on != "" {
		route.FallbackOn = models.NewWordList(strings.Fields(c.on)...)
	}
	s := newRouting(t, state, cmp.Or(c.mini, "ready"), map[string]models.Route{"model": route}, func(cfg *Config) {
		if c.overBudget {
			cfg.Accounting.Budget = budget.New(budget.Config{Limits: budget.Limits{Daily: new(usd.Amount(1))}}, nil)
		}
	})
	var key *access.Key
	if c.freeOnly {
		key = &access.Key{Name: "free", FreeOnly: true}
	}
	p := s.PlanFor(key, "model", chatPath)
	if p.Rejection.Status == 0 {
		p.CheckBudget(&request.Request{Path: chatPath, Began: time.Now()})
	}
	return p
}

// TestPlan: the candidates of a call in their order, and why the others are skipped.
func TestPlan(t *testing.T) {
	const tenSeconds = models.WhileLoading(10 * time.Second)
	const money = "the key free is free_only, so cloud was skipped"
	for name, tc := range map[string]struct {
		situation

		want       string         // the candidates
		reason     backend.Reason // why the primary is not the first one
		waits      bool           // the call waits for a server
		skipReason string         // a part of why the others are skipped
		refuse     int            // the status of the error
	}{
		"ready":                                    {situation: situation{primary: "ready", fallback: "cloud"}, want: "qwen cloud"},
		"ready, no fallback":                       {situation: situation{primary: "ready"}, want: "qwen"},
		"ready, several fallbacks":                 {situation: situation{primary: "ready", fallback: "mini cloud"}, want: "qwen mini cloud"},
		"ready, the fallback has no key":           {situation: situation{primary: "ready", fallback: "keyless"}, want: "qwen", skipReason: "fallback keyless has no API key: set KEY"},
		"ready, the fallback failed":               {situation: situation{primary: "ready", fallback: "mini", mini: "failed"}, want: "qwen", skipReason: "fallback mini has failed"},
		"ready, the fallback loads":                {situation: situation{primary: "ready", fallback: "mini", mini: "loading"}, want: "qwen mini", skipReason: "fallback mini is loading"},
		"ready, free_only":                         {situation: situation{primary: "ready", fallback: "cloud", freeOnly: true}, want: "qwen", skipReason: money},
		"ready, over budget":                       {situation: situation{primary: "ready", fallback: "cloud", overBudget: true}, want: "qwen", skipReason: "cloud was skipped: the daily budget"},
		"degraded":                                 {situation: situation{primary: "degraded", fallback: "cloud"}, want: "cloud qwen", reason: backend.Degraded},
		"degraded, no fallback":                    {situation: situation{primary: "degraded"}, want: "qwen"},
		"degraded, not in fallback_on":             {situation: situation{primary: "degraded", fallback: "cloud", on: "failed"}, want: "qwen"},
		"degraded, in fallback_on":                 {situation: situation{primary: "degraded", fallback: "cloud", on: "degraded"}, want: "cloud qwen", reason: backend.Degraded},
		"degraded, free_only":                      {situation: situation{primary: "degraded", fallback: "cloud", freeOnly: true}, want: "qwen", skipReason: money},
		"degraded, over budget":                    {situation: situation{primary: "degraded", fallback: "cloud", overBudget: true}, want: "qwen", reason: backend.Degraded, skipReason: "cloud was skipped"},
		"loading":                                  {situation: situation{primary: "loading", fallback: "cloud"}, want: "cloud qwen", reason: backend.Loading},
		"loading, no fallback":                     {situation: situation{primary: "loading"}, want: "qwen", waits: true},
		"loading, the fallback has no key":         {situation: situation{primary: "loading", fallback: "keyless"}, want: "qwen", waits: true, skipReason: "no API key"},
		"loading, not in fallback_on":              {situation: situation{primary: "loading", fallback: "cloud", on: "failed"}, want: "qwen cloud", waits: true},
		"loading, free_only":                       {situation: situation{primary: "loading", fallback: "cloud", freeOnly: true}, want: "qwen", waits: true, skipReason: money},
		"loading, free_only, free upstream":        {situation: situation{primary: "loading", fallback: "cloud lan", freeOnly: true}, want: "lan qwen", reason: backend.Loading, skipReason: money},
		"loading, over budget":                     {situation: situation{primary: "loading", fallback: "cloud", overBudget: true}, want: "qwen", waits: true, skipReason: "cloud was skipped"},
		"loading, over budget, free upstream":      {situation: situation{primary: "loading", fallback: "cloud lan", overBudget: true}, want: "lan qwen", reason: backend.Loading, skipReason: "cloud was skipped"},
		"unloaded":                                 {situation: situation{primary: "unloaded", fallback: "cloud"}, want: "cloud qwen", reason: backend.Unloaded},
		"unloaded, no fallback":                    {situation: situation{primary: "unloaded"}, want: "qwen", waits: true},
		"unloaded, over budget":                    {situation: situation{primary: "unloaded", fallback: "cloud", overBudget: true}, want: "qwen", waits: true, skipReason: "cloud was skipped"},
		"failed, the fallback is unloaded":         {situation: situation{primary: "failed", fallback: "mini", mini: "unloaded"}, want: "mini", reason: backend.Failed, waits: true, skipReason: "qwen has failed"},
		"unloaded, wait":                           {situation: situation{primary: "unloaded", fallback: "cloud", loadWait: models.WaitForTimeout}, want: "qwen cloud", waits: true},
		"loading, wait for 10 s":                   {situation: situation{primary: "loading", fallback: "mini cloud", loadWait: tenSeconds}, want: "qwen mini cloud", waits: true},
		"loading, wait, not in fallback_on":        {situation: situation{primary: "loading", fallback: "cloud", on: "failed", loadWait: tenSeconds}, want: "qwen cloud", waits: true},
		"loading, wait, no fallback":               {situation: situation{primary: "loading", loadWait: tenSeconds}, want: "qwen", waits: true},
		"loading, wait, the fallback has no key":   {situation: situation{primary: "loading", fallback: "keyless", loadWait: tenSeconds}, want: "qwen", waits: true, skipReason: "no API key"},
		"loading, wait, the fallback loads, too":   {situation: situation{primary: "loading", fallback: "mini", mini: "loading", loadWait: tenSeconds}, want: "qwen", waits: true, skipReason: "fallback mini is loading"},
		"loading, wait, free_only":                 {situation: situation{primary: "loading", fallback: "cloud", freeOnly: true, loadWait: tenSeconds}, want: "qwen", waits: true, skipReason: money},
		"loading, wait, over budget":               {situation: situation{primary: "loading", fallback: "cloud", overBudget: true, loadWait: tenSeconds}, want: "qwen", waits: true, skipReason: "cloud was skipped"},
		"ready, wait":                              {situation: situation{primary: "ready", fallback: "cloud", loadWait: tenSeconds}, want: "qwen cloud"},
		"degraded, wait":                           {situation: situation{primary: "degraded", fallback: "cloud", loadWait: tenSeconds}, want: "cloud qwen", reason: backend.Degraded},
		"draining, wait":                           {situation: situation{primary: "draining", fallback: "cloud", loadWait: tenSeconds}, want: "cloud qwen", reason: backend.Draining},
		"failed, wait":                             {situation: situation{primary: "failed", fallback: "cloud", loadWait: tenSeconds}, want: "cloud", reason: backend.Failed, skipReason: "qwen has failed"},
		"failed":                                   {situation: situation{primary: "failed", fallback: "cloud"}, want: "cloud", reason: backend.Failed, skipReason: "qwen has failed"},
		"failed, no fallback":                      {situation: situation{primary: "failed"}, reason: backend.Failed, refuse: 503, skipReason: "qwen has failed"},
		"failed, the fallback loads":               {situation: situation{primary: "failed", fallback: "mini", mini: "loading"}, want: "mini", reason: backend.Failed, waits: true, skipReason: "qwen has failed"},
		"failed, the fallback is degraded":         {situation: situation{primary: "failed", fallback: "mini", mini: "degraded"}, want: "mini", reason: backend.Failed, skipReason: "qwen has failed"},
		"failed, not in fallback_on":               {situation: situation{primary: "failed", fallback: "cloud", on: "loading"}, reason: backend.Failed, refuse: 503},
		"failed, free_only":                        {situation: situation{primary: "failed", fallback: "cloud", freeOnly: true}, reason: backend.Failed, refuse: 503, skipReason: money},
		"failed, over budget":                      {situation: situation{primary: "failed", fallback: "cloud", overBudget: true}, reason: backend.Failed, refuse: 429, skipReason: "cloud was skipped"},
		"an upstream":                              {situation: situation{primary: "cloud", fallback: "mini"}, want: "cloud mini"},
		"an upstream, over budget":                 {situation: situation{primary: "cloud", fallback: "mini", overBudget: true}, want: "mini", reason: backend.Failed, skipReason: "cloud was skipped"},
		"an upstream, over budget, no fallback":    {situation: situation{primary: "cloud", overBudget: true}, refuse: 429, skipReason: "cloud was skipped"},
		"an upstream, free_only":                   {situation: situation{primary: "cloud", fallback: "mini", freeOnly: true}, refuse: 403},
		"an upstream without a key":                {situation: situation{primary: "keyless"}, refuse: 503, skipReason: "keyless has no API key: set KEY"},
		"an upstream without a key, with fallback": {situation: situation{primary: "keyless", fallback: "lan"}, want: "lan", reason: backend.Failed, skipReason: "keyless has no API key: set KEY"},
		"a free upstream, over budget, free_only":  {situation: situation{primary: "lan", fallback: "mini", overBudget: true, freeOnly: true}, want: "lan mini"},
		"generates nothing":                        {situation: situation{primary: "embeds", fallback: "cloud"}, want: "cloud", reason: backend.Unsupported, skipReason: "only computes embeddings (/v1/embeddings)"},
		"generates nothing, no fallback":           {situation: situation{primary: "embeds"}, reason: backend.Unsupported, refuse: 400},
		"generates nothing, loading":               {situation: situation{primary: "ranks, loading"}, reason: backend.Unsupported, refuse: 400, skipReason: "only ranks documents (/v1/rerank)"},
		"generates nothing, not in fallback_on":    {situation: situation{primary: "embeds", fallback: "cloud", on: "failed"}, reason: backend.Unsupported, refuse: 400},
		"generates nothing, the fallback loads":    {situation: situation{primary: "embeds", fallback: "mini", mini: "loading"}, want: "mini", reason: backend.Unsupported, waits: true},
		"generates nothing, nor does the fallback": {situation: situation{primary: "embeds", fallback: "mini", mini: "embeds"}, reason: backend.Unsupported, refuse: 400},
		"the fallback generates nothing":           {situation: situation{primary: "ready", fallback: "mini", mini: "embeds"}, want: "qwen", skipReason: "fallback mini does not answer /v1/chat/completions"},
		"the primary as its own fallback":          {situation: situation{primary: "ready", fallback: "qwen cloud"}, want: "qwen cloud"},
	} {
		p := tc.plan(t)
		if got := names(p); got != tc.want || p.Reason != tc.reason || (p.WaitFor != "") != tc.waits || p.Rejection.Status != tc.refuse {
			t.Errorf("%s: %q, reason %q, waits for %q, error %d; want %q, %q, %t, %d",
				name, got, p.Reason, p.WaitFor, p.Rejection.Status, tc.want, tc.reason, tc.waits, tc.refuse)
		}
		if got := skipped(p); !strings.Contains(got, tc.skipReason) {
			t.Errorf("%s: skipped because %q, want %q", name, got, tc.skipReason)
		}
	}
}

// TestPlanRules goes through every situation, and checks what holds in all of them.
func TestPlanRules(t *testing.T) {
	ons := []string{"", "failed", "loading", "degraded failed"}
	n := 0
	for _, primary := range []string{"ready", "degraded", "loading", "failed", "embeds", "cloud", "keyless", "lan"} {
		for _, fallback := range []string{"", "cloud", "keyless", "lan", "mini", "mini cloud", "cloud lan"} {
			for _, mini := range []string{"ready", "degraded", "loading", "failed"} {
				for _, on := range ons {
					for bits := range 8 {
						n++
						c := situation{primary, fallback, mini, on, bits&1 != 0, bits&2 != 0, -models.WhileLoading(bits >> 2)}
						checkRules(t, c, c.plan(t))
					}
				}
			}
		}
	}
	if want := 8 * 7 * 4 * len(ons) * 8; n != want {
		t.Errorf("%d situations, want %d", n, want)
	}
}

func checkRules(t *testing.T, c situation, p Plan) {
	t.Helper()
	kept := Kept(p.Candidates)
	wrong := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%+v: %s: candidates %q, error %d", c, fmt.Sprintf(format, args...), names(p), p.Rejection.Status)
	}
	if (p.Rejection.Status == 0) != (len(kept) > 0) {
		wrong("a plan has candidates or an error")
	}
	for _, candidate := range kept {
		if candidate.Metered && (c.freeOnly || c.overBudget) {
			wrong("%s would be paid", candidate.Name)
		}
		if candidate.Backend.Availability().MissingKey != "" {
			wrong("%s has no API key", candidate.Name)
		}
		now := candidate.Backend.Availability()
		if !now.Usable() && !now.Returning {
			wrong("%s cannot answer", candidate.Name)
		}
	}
	if c.primary == "loading" && c.loadWait == models.WaitForTimeout && !kept[0].Primary {
		wrong("a call that waits for its primary goes elsewhere first")
	}
	if p.WaitFor != "" && !kept[0].Returning {
		wrong("it waits for %s", p.WaitFor)
	}
	if i := slices.IndexFunc(kept, func(c Candidate) bool { return c.Primary }); c.primary == "ready" && i != 0 {
		wrong("a primary that is ready is the first candidate")
	}
}

// TestWanted: the servers that would answer the call if their models were loaded.
func TestWanted(t *testing.T) {
	for name, tc := range map[string]struct {
		situation

		want string
	}{
		"ready":                                   {situation{primary: "ready", fallback: "mini cloud", mini: "unloaded"}, ""},
		"degraded":                                {situation{primary: "degraded", fallback: "mini cloud", mini: "unloaded"}, ""},
		"unloaded":                                {situation{primary: "unloaded", fallback: "cloud"}, "qwen"},
		"unloaded, no fallback":                   {situation{primary: "unloaded"}, "qwen"},
		"unloaded, free_only":                     {situation{primary: "unloaded", fallback: "cloud", freeOnly: true}, "qwen"},
		"loading":                                 {situation{primary: "loading", fallback: "cloud"}, "qwen"},
		"unloaded, as its first fallback":         {situation{primary: "unloaded", fallback: "mini cloud", mini: "unloaded"}, "qwen mini"},
		"unloaded, the first fallback is ready":   {situation{primary: "unloaded", fallback: "mini cloud"}, "qwen"},
		"unloaded, the last fallback, too":        {situation{primary: "unloaded", fallback: "cloud mini", mini: "unloaded"}, "qwen"},
		"failed, the first fallback is unloaded":  {situation{primary: "failed", fallback: "mini cloud", mini: "unloaded"}, "mini"},
		"an upstream, the fallback is unloaded":   {situation{primary: "cloud", fallback: "mini", mini: "unloaded"}, ""},
		"no key, the first fallback is unloaded":  {situation{primary: "keyless", fallback: "mini lan", mini: "unloaded"}, "mini"},
		"unloaded, the first fallback has no key": {situation{primary: "unloaded", fallback: "keyless mini lan", mini: "unloaded"}, "qwen mini"},
	} {
		var got []string
		for _, server := range tc.plan(t).Preferred {
			got = append(got, server.Info().Name)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestPlanUnknownModel: an unknown model, and one that the key may not use.
func TestPlanUnknownModel(t *testing.T) {
	s := newRouting(t, "ready", "ready", map[string]models.Route{"a": {Primary: "qwen"}, "b": {Primary: "cloud"}})
	key := &access.Key{Name: "k", Routes: []string{"a"}}
	if p := s.PlanFor(key, "c", ""); p.Rejection.Status != 404 || !strings.HasSuffix(p.Rejection.Message, "available models: a") {
		t.Errorf("%+v", p.Rejection)
	}
	if p := s.PlanFor(key, "b", ""); p.Rejection.Status != 403 || !strings.Contains(p.Rejection.Message, "it may use a") {
		t.Errorf("%+v", p.Rejection)
	}
}

// TestRequireLocal: only a local server answers llama-server's own endpoints.
func TestRequireLocal(t *testing.T) {
	for name, tc := range map[string]struct {
		situation

		want   string
		refuse int
	}{
		"ready":       {situation{primary: "ready", fallback: "cloud"}, "qwen", 0},
		"loading":     {situation{primary: "loading", fallback: "cloud"}, "qwen", 0},
		"failed":      {situation{primary: "failed", fallback: "cloud"}, "", 503},
		"an upstream": {situation{primary: "cloud", fallback: "lan"}, "", 501},
	} {
		p := tc.plan(t)
		p.RequireLocal("/tokenize")
		if names(p) != tc.want || p.Rejection.Status != tc.refuse {
			t.Errorf("%s: %q, error %d; want %q, %d", name, names(p), p.Rejection.Status, tc.want, tc.refuse)
		}
	}
}
