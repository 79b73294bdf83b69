package modellist

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/price"
)

// fakeLocal is a local server in a fixed state.
type fakeLocal backend.LocalState

func (f *fakeLocal) State() backend.LocalState            { return backend.LocalState(*f) }
func (*fakeLocal) AddDemand(bool)                         {}
func (*fakeLocal) Engine() *models.Capabilities           { return &models.Capabilities{} }
func (*fakeLocal) BusySlots(context.Context) (int, error) { return 0, nil }

// fakeCatalog has lists that a test sets.
type fakeCatalog struct {
	lists *models.Lists
	full  map[string]string
}

func (c *fakeCatalog) Lists() *models.Lists                { return c.lists }
func (c *fakeCatalog) FullName(bare string) (string, bool) { name, ok := c.full[bare]; return name, ok }

func (c *fakeCatalog) set(upstream string, list ...models.Listed) {
	c.lists = &models.Lists{ByUpstream: map[string][]models.Listed{upstream: list}}
}

// gpt and opus are models of OpenRouter's list.
var (
	gpt = models.Listed{
		ID: "openai/gpt-4o", Name: "OpenAI: GPT-4o", Created: 1715558400, Context: 128000, MaxOutput: 16384,
		Input: []string{"text", "image"}, Output: []string{"text"}, Parameters: []string{"tools"}, Abilities: []models.Ability{models.Chat, models.Vision, models.Tools},
	}
	opus = models.Listed{ID: "anthropic/opus", Context: 200000}
)

// fixture is a Handler with a local server, a paid upstream and a free one. Its keys are by
// the value of X-Api-Key.
type fixture struct {
	*Handler
	t       *testing.T
	local   *fakeLocal
	catalog *fakeCatalog
	keys    map[string]*access.Key
	mux     *http.ServeMux
}

const created = 1700000000

func newFixture(t *testing.T, routes map[string]models.Route, edits ...func(*plan.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, local: &fakeLocal{Alive: true, Status: "ready"}, catalog: &fakeCatalog{}, keys: map[string]*access.Key{}, mux: http.NewServeMux()}
	cfg := plan.Config{
		Locals:  map[string]backend.Local{"qwen": f.local},
		Catalog: f.catalog,
		Upstreams: []backend.UpstreamConfig{
			{Name: "openrouter", BaseURL: "http://127.0.0.1:1", Key: "secret"},
			{Name: "lan", BaseURL: "http://127.0.0.1:1"},
		},
	}
	cfg.Accounting.Prices = accountingtest.PriceLists{"openrouter": price.NewPriceList(price.Table{"openai/gpt-4o": {Prompt: parsePrice(t, "0.0000025"), Completion: parsePrice(t, "0.00001")}}, nil, nil)}
	if routes == nil {
		routes = map[string]models.Route{
			"local/qwen": {Primary: "qwen", Fallback: "openrouter", FallbackModel: "qwen/qwen"},
			"gpt-4o":     {Primary: "openrouter", PrimaryModel: "openai/gpt-4o"},
			"*/*":        {Primary: "openrouter"},
		}
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	var err error
	if cfg.Table, err = models.NewTable(routes); err != nil {
		t.Fatal(err)
	}
	routing, err := plan.NewRouting(cfg, &plan.Routing{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	f.Handler = &Handler{Routing: func() *plan.Routing { return routing }, Created: created}
	f.mux.HandleFunc("GET /v1/models", f.List)
	f.mux.HandleFunc("GET /v1/models/{id...}", f.Show)
	return f
}

func parsePrice(t *testing.T, text string) price.Price {
	t.Helper()
	p, err := price.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ServeHTTP is the router's part: the key of a request becomes part of its context.
func (f *fixture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mux.ServeHTTP(w, r.WithContext(access.WithKey(r.Context(), f.keys[r.Header.Get("X-Api-Key")])))
}

// get requests a path. headers are names and values.
func (f *fixture) get(path string, headers ...string) (status int, body gjson.Result) {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != "application/json; charset=utf-8" || !gjson.ValidBytes(w.Body.Bytes()) {
		f.t.Errorf("%s: %s, %s", path, got, w.Body)
	}
	return w.Code, gjson.ParseBytes(w.Body.Bytes())
}

// ids returns the names in the list that a client receives.
func (f *fixture) ids(path string, headers ...string) string {
	f.t.Helper()
	status, body := f.get(path, headers...)
	if status != http.StatusOK {
		return fmt.Sprintf("%d %s", status, body.Get("error.message"))
	}
	var ids []string
	for _, id := range body.Get("data.#.id").Array() {
		ids = append(ids, id.Str)
	}
	return strings.Join(ids, " ")
}
