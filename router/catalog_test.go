package router

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/plan"
)

// TestBareNames: a name without a route takes the route of the only vendor that lists it.
func TestBareNames(t *testing.T) {
	b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) {
		c.Catalog = catalog{"gpt-4.1": "openai/gpt-4.1", "gpt-4o": "other/gpt-4o"}
		c.Access = access.Policy{Keys: []access.Key{
			{Name: "all", SHA256: sha256.Sum256([]byte("all"))},
			{Name: "bare", SHA256: sha256.Sum256([]byte("bare")), Routes: []string{"gpt-*"}},
			{Name: "vendor", SHA256: sha256.Sum256([]byte("vendor")), Routes: []string{"openai/*"}},
			{Name: "local", SHA256: sha256.Sum256([]byte("local")), Routes: []string{"local/*"}},
			{Name: "free", SHA256: sha256.Sum256([]byte("free")), FreeOnly: true},
		}}
	})
	for name, tc := range map[string]struct {
		model, key string
		status     int
		asked      string
	}{
		"one vendor has it":         {"gpt-4.1", "all", 200, "openai/gpt-4.1"},
		"a route wins":              {"gpt-4o", "all", 200, "openai/gpt-4o"},
		"a typo":                    {"gpt-4.l", "all", 404, ""},
		"a key for the bare name":   {"gpt-4.1", "bare", 200, "openai/gpt-4.1"},
		"a key for the full name":   {"gpt-4.1", "vendor", 200, "openai/gpt-4.1"},
		"a key for neither":         {"gpt-4.1", "local", 403, ""},
		"a key that spends nothing": {"gpt-4.1", "free", 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(b.cloud.requests())
			r := b.post("/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[]}`, tc.model), "Authorization", "Bearer "+tc.key)
			if r.status != tc.status {
				t.Errorf("%d %s", r.status, r.body)
			}
			got := b.cloud.requests()[before:]
			if tc.asked == "" && len(got) > 0 || tc.asked != "" && (len(got) != 1 || gjson.GetBytes(got[0].body, "model").Str != tc.asked) {
				t.Errorf("the cloud got %d calls: %s", len(got), got)
			}
		})
	}
	if got := len(b.local.requests()); got != 0 {
		t.Errorf("local got %d calls", got)
	}
}

type catalog map[string]string

func (c catalog) FullName(bare string) (string, bool) { name, ok := c[bare]; return name, ok }
func (c catalog) Lists() *models.Lists                { return nil }
