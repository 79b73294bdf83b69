package router

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
)

func withAliases(_ *plan.Config, routes map[string]models.Route) {
	routes["drafts"] = models.Route{Primary: "qwen", Aliases: []string{"best", "openai/fast"}, Timeout: time.Minute}
	routes["premium"] = models.Route{Primary: "openrouter", Aliases: []string{"gpt-best"}, Timeout: time.Minute}
}

// TestAlias: a call by an alias is one for its route, down to the model's name at the backend.
// Only the ledger has the name that the client sent.
func TestAlias(t *testing.T) {
	edit, acct := withLedger(t, budget.Limits{})
	b := newFixture(t, answers, answers, withAliases, edit)
	for alias, want := range map[string]struct{ backend, asked, route string }{
		"best":        {"qwen", "qwen", "drafts"},
		"openai/fast": {"qwen", "qwen", "drafts"}, // the pattern */* has it, too
		"gpt-best":    {"openrouter", "premium", "premium"},
	} {
		r := b.chat(alias, false)
		asked := b.local
		if want.backend != "qwen" {
			asked = b.cloud
		}
		if got := gjson.GetBytes(asked.lastBody(), "model").Str; r.status != 200 || r.backend() != want.backend || got != want.asked {
			t.Errorf("%s: %d from %s, asked for %q", alias, r.status, r.backend(), got)
		}
		if got := b.router.Explain(alias); got.Route.Name != want.route || got.Backend != want.backend {
			t.Errorf("%s is explained as %+v", alias, got)
		}
	}
	b.waitIdle()
	for by, want := range map[ledger.By]string{ledger.ByRoute: "[drafts:2 premium:1]", ledger.ByModel: "[best:1 gpt-best:1 openai/fast:1]"} {
		var got []string
		for _, group := range usageBy(t, acct, by).Groups {
			got = append(got, fmt.Sprintf("%s:%d", group.Name, group.Calls))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("by %s: %s, want %s", by, got, want)
		}
	}
}

// TestKeysForAliases: a key for a route may use its aliases; a key for an alias only that name.
func TestKeysForAliases(t *testing.T) {
	const routeKey, aliasKey = "llmsup-route-client-secret", "llmsup-alias-client-secret"
	b := newFixture(t, answers, answers, withAliases, func(c *plan.Config, _ map[string]models.Route) {
		c.Access.Keys = []access.Key{
			{Name: "route", SHA256: sha256.Sum256([]byte(routeKey)), Routes: []string{"drafts"}},
			{Name: "alias", SHA256: sha256.Sum256([]byte(aliasKey)), Routes: []string{"best"}},
		}
	})
	for key, want := range map[string]struct {
		listed string
		status map[string]int
	}{
		routeKey: {`["best","drafts","openai/fast"]`, map[string]int{"drafts": 200, "best": 200, "openai/fast": 200, "gpt-best": 403}},
		aliasKey: {`["best"]`, map[string]int{"drafts": 403, "best": 200, "openai/fast": 403, "gpt-best": 403}},
	} {
		r := b.send("GET", "/v1/models", "", "X-Api-Key", key)
		if got := gjson.Get(r.body, "data.#.id").String(); got != want.listed {
			t.Errorf("%s: models %s, want %s", key, got, want.listed)
		}
		for model, status := range want.status {
			if r := b.send("GET", "/v1/models/"+model, "", "X-Api-Key", key); r.status != status {
				t.Errorf("%s: GET %s: %d, want %d", key, model, r.status, status)
			}
			if r := b.send("POST", "/v1/chat/completions", fmt.Sprintf(`{"model":%q}`, model), "X-Api-Key", key); r.status != status {
				t.Errorf("%s: %s: %d %s, want %d", key, model, r.status, r.body, status)
			}
		}
	}
}
