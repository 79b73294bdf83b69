package endpoint

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

func newTable() *Table { return NewTable(llamacpp.Engine{}.Capabilities(nil)) }

func TestMainPath(t *testing.T) {
	table := newTable()
	for requested, want := range map[string]string{
		"/v1/chat/completions":   "/v1/chat/completions",
		"/v1/chat/completions//": "/v1/chat/completions",
		"/chat/completions":      "/v1/chat/completions",
		"/chat/completions/":     "/v1/chat/completions",
		"/responses":             "/v1/responses",
		"/completions":           "/completion",
		"/embeddings/":           "/embedding",
		"/rerank":                "/v1/rerank",
		"/reranking":             "/v1/rerank",
		"/v1/reranking":          "/v1/rerank",
		"/audio/transcriptions/": "/v1/audio/transcriptions",
		"/models":                "/v1/models",
		"/v1/health":             "/health",
		"/slots/0/":              "/slots/0",
		"//health":               "//health",
		"/":                      "/",
		"":                       "",
		"/nothing/":              "/nothing",
	} {
		if got := table.Main(requested); got != want {
			t.Errorf("%q stands for %q, want %q", requested, got, want)
		}
	}
}

// TestAliases: each alias stands for an endpoint, or for a page of llmsup's own, and hides
// none.
func TestAliases(t *testing.T) {
	table, engine := newTable(), llamacpp.Engine{}.Capabilities(nil)
	for alias, main := range engine.Aliases {
		if table.At(main) == nil && !slices.Contains([]string{"/v1/models", "/health"}, main) {
			t.Errorf("%s stands for %s, which does not exist", alias, main)
		}
		if table.At(alias) != nil {
			t.Errorf("%s is an endpoint and an alias", alias)
		}
	}
	for path := range engine.Slots.PerItem {
		if table.At(path) == nil {
			t.Errorf("%s does not exist", path)
		}
	}
}

func TestEndpoints(t *testing.T) {
	table := newTable()
	for path, want := range map[string]struct {
		methods   string // "" = there is no such endpoint
		local     bool
		operators bool
	}{
		"/v1/chat/completions": {methods: "POST"},
		"/completion":          {methods: "POST", local: true},
		"/tokenize":            {methods: "POST", local: true},
		"/props":               {methods: "GET POST", local: true, operators: true},
		"/slots":               {methods: "GET", local: true, operators: true},
		"/slots/17":            {methods: "POST", local: true, operators: true},
		"/slots/":              {},
		"/slots/1/2":           {},
		"/slots/{}/":           {},
		"/v1/nothing":          {},
		"":                     {},
	} {
		e := table.At(path)
		if e == nil || want.methods == "" {
			if e != nil || want.methods != "" {
				t.Errorf("%q: %+v, want %+v", path, e, want)
			}
			continue
		}
		if got := strings.Join(e.Methods(), " "); got != want.methods || e.LocalOnly() != want.local || e.ForOperators() != want.operators {
			t.Errorf("%q: %s, local %t, operators %t; want %+v", path, got, e.LocalOnly(), e.ForOperators(), want)
		}
		if e.Accepts(http.MethodHead) != e.Accepts(http.MethodGet) || e.Accepts(http.MethodDelete) {
			t.Errorf("%q: HEAD %t, DELETE %t", path, e.Accepts(http.MethodHead), e.Accepts(http.MethodDelete))
		}
	}
}

func TestQuery(t *testing.T) {
	e := newTable().At("/slots/3")
	if got := e.Query(map[string][]string{"action": {"save"}, "model": {"local"}, "api_key": {"secret"}}); got != "action=save" {
		t.Errorf("%q is forwarded", got)
	}
}

func TestSuggest(t *testing.T) {
	table := newTable()
	for unknown, want := range map[string]string{
		"/audio/transcriptions":                  "/v1/audio/transcriptions",
		"/v1/v1/messages":                        "/v1/messages",
		"/v1/v1/messages/count_tokens":           "/v1/messages/count_tokens",
		"/api/v1/chat/completions":               "/v1/chat/completions",
		"/openai/deployments/x/chat/completions": "/v1/chat/completions",
		"/v1/messages/batches":                   "",
		"/api/tags":                              "",
		"/":                                      "",
	} {
		if got := table.Suggest(unknown); got != want {
			t.Errorf("%s: %q, want %q", unknown, got, want)
		}
	}
}
