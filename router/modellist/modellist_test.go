package modellist

import (
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/plan"
)

// TestEntry: all that is known of a model is shown, and nothing else.
func TestEntry(t *testing.T) {
	f := newFixture(t, nil)
	f.catalog.set("openrouter", gpt, opus)
	const free = `"pricing":{"prompt":"0","completion":"0"}`
	check := func(id, want string) {
		t.Helper()
		_, list := f.get("/v1/models")
		status, one := f.get("/v1/models/" + id)
		if in := list.Get(`data.#(id="` + id + `")`); status != 200 || one.Get("@ugly").Raw != want || in.Exists() && in.Raw != want {
			t.Errorf("%d %s\nin the list %s\nwant %s", status, one.Raw, in.Raw, want)
		}
	}
	check("local/qwen", `{"id":"local/qwen","object":"model","created":1700000000,"owned_by":"qwen","name":"local/qwen","status":"ready",`+free+`}`)
	f.local.Status, f.local.Description = "loading", &models.Description{
		Name: "Qwen2.5 14B", Abilities: []models.Ability{models.Chat, models.Completion, models.Tools}, CtxSize: 8192, TrainedContext: 32768,
		Vocabulary: 152064, Embedding: 5120, Parameters: 14770033664, Bytes: 8988110592,
	}
	check("local/qwen", `{"id":"local/qwen","object":"model","created":1700000000,"owned_by":"qwen","name":"local/qwen","status":"loading",`+
		`"context_length":8192,"capabilities":["chat","completion","tools"],"architecture":{"modality":"text->text","input_modalities":["text"],"output_modalities":["text"]},`+free+
		`,"meta":{"n_vocab":152064,"n_ctx":8192,"n_ctx_train":32768,"n_embd":5120,"n_params":14770033664,"size":8988110592}}`)
	const aboutGPT = `"context_length":128000,"max_output_tokens":16384,"capabilities":["chat","vision","tools"],` +
		`"architecture":{"modality":"text+image->text","input_modalities":["text","image"],"output_modalities":["text"]},"supported_parameters":["tools"],` +
		`"pricing":{"prompt":"0.0000025","completion":"0.00001"},"top_provider":{"context_length":128000,"max_completion_tokens":16384},"meta":{"n_ctx":128000}}`
	check("openai/gpt-4o", `{"id":"openai/gpt-4o","object":"model","created":1715558400,"owned_by":"openrouter","name":"OpenAI: GPT-4o",`+aboutGPT)
	check("gpt-4o", `{"id":"gpt-4o","object":"model","created":1715558400,"owned_by":"openrouter","name":"gpt-4o",`+aboutGPT)
	check("anthropic/opus", `{"id":"anthropic/opus","object":"model","created":1700000000,"owned_by":"openrouter","name":"anthropic/opus","context_length":200000,"meta":{"n_ctx":200000}}`)
	check("unlisted/model", `{"id":"unlisted/model","object":"model","created":1700000000,"owned_by":"openrouter","name":"unlisted/model"}`)
}

func TestList(t *testing.T) {
	openrouter := models.Route{Primary: "openrouter"}
	for name, tc := range map[string]struct {
		routes map[string]models.Route
		listed []models.Listed
		want   string
		edit   func(*plan.Config)
	}{
		"no list":                    {want: "gpt-4o local/qwen"},
		"patterns":                   {listed: []models.Listed{gpt, opus, {ID: "bare"}}, want: "gpt-4o local/qwen openai/gpt-4o anthropic/opus"},
		"some of them":               {map[string]models.Route{"anthropic/*": openrouter}, []models.Listed{gpt, opus}, "anthropic/opus", nil},
		"an exact route":             {map[string]models.Route{"openai/gpt-4o": openrouter, "*/*": openrouter}, []models.Listed{opus, gpt}, "openai/gpt-4o anthropic/opus", nil},
		"an alias":                   {map[string]models.Route{"x": {Primary: "qwen", Aliases: []string{"openai/gpt-4o"}}, "*/*": openrouter}, []models.Listed{opus, gpt}, "openai/gpt-4o x anthropic/opus", nil},
		"a pattern of others":        {map[string]models.Route{"*": openrouter, "openai/*": {Primary: "lan"}}, []models.Listed{gpt, opus, {ID: "bare"}}, "anthropic/opus bare", nil},
		"one model for all names":    {map[string]models.Route{"*": {Primary: "openrouter", PrimaryModel: "openai/gpt-4o"}}, []models.Listed{gpt, opus}, "", nil},
		"a local name is no pattern": {map[string]models.Route{"*": openrouter}, []models.Listed{{ID: "local/x"}, opus}, "anthropic/opus", nil},
		"without its key": {listed: []models.Listed{gpt, opus}, want: "gpt-4o local/qwen", edit: func(c *plan.Config) {
			c.Upstreams[0].Key, c.Upstreams[0].Missing = "", "set OPENROUTER_API_KEY"
		}},
		"without a catalog": {want: "gpt-4o local/qwen", edit: func(c *plan.Config) { c.Catalog = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.edit == nil {
				tc.edit = func(*plan.Config) {}
			}
			f := newFixture(t, tc.routes, tc.edit)
			f.catalog.set("openrouter", tc.listed...)
			if got := f.ids("/v1/models"); got != tc.want {
				t.Errorf("it lists %s, want %s", got, tc.want)
			}
		})
	}
}

// TestListFollowsItsSources: a new list is shown, and a state is never stored.
func TestListFollowsItsSources(t *testing.T) {
	f := newFixture(t, nil)
	if got := f.ids("/v1/models"); got != "gpt-4o local/qwen" {
		t.Errorf("at the start: %s", got)
	}
	f.catalog.set("openrouter", opus)
	if got := f.ids("/v1/models"); got != "gpt-4o local/qwen anthropic/opus" {
		t.Errorf("after the first fetch: %s", got)
	}
	before := f.catalogue.Load()
	for _, status := range []string{"ready", "draining"} {
		f.local.Status = status
		if _, list := f.get("/v1/models"); list.Get(`data.#(id="local/qwen").status`).Str != status {
			t.Errorf("%s: %s", status, list)
		}
	}
	if f.catalogue.Load() != before {
		t.Error("the catalogue is made anew for each request")
	}
	f.catalog.set("openrouter", gpt)
	if got := f.ids("/v1/models"); got != "gpt-4o local/qwen openai/gpt-4o" {
		t.Errorf("after the second fetch: %s", got)
	}
}

// TestKeySeesItsModels: a list and a description have only models that the key may use.
func TestKeySeesItsModels(t *testing.T) {
	f := newFixture(t, nil)
	f.catalog.set("openrouter", gpt, opus)
	f.catalog.full = map[string]string{"opus": "anthropic/opus", "gpt-4o": "openai/gpt-4o"}
	for name, tc := range map[string]struct {
		key  *access.Key
		want string
	}{
		"no key":         {nil, "gpt-4o local/qwen openai/gpt-4o anthropic/opus"},
		"all":            {&access.Key{}, "gpt-4o local/qwen openai/gpt-4o anthropic/opus"},
		"local":          {&access.Key{Routes: []string{"local/*"}}, "local/qwen"},
		"no route":       {&access.Key{Routes: []string{}}, ""},
		"free_only":      {&access.Key{FreeOnly: true}, "local/qwen"},
		"a vendor":       {&access.Key{Routes: []string{"anthropic/*"}}, "anthropic/opus"},
		"a listed model": {&access.Key{Routes: []string{"openai/gpt-4o"}}, "openai/gpt-4o"},
		"a bare name":    {&access.Key{Routes: []string{"opus"}}, "opus"},
		"bare, and free": {&access.Key{Routes: []string{"opus"}, FreeOnly: true}, ""},
		"a route's name": {&access.Key{Routes: []string{"gpt-4o"}}, "gpt-4o"},
	} {
		t.Run(name, func(t *testing.T) {
			f.keys["k"] = tc.key
			for _, header := range []string{"X-None", "Anthropic-Version"} {
				if got := f.ids("/v1/models", "X-Api-Key", "k", header, "2023-06-01"); got != tc.want {
					t.Errorf("with %s, it lists %s, want %s", header, got, tc.want)
				}
			}
			for id, status := range map[string]int{"gpt-4o": 403, "local/qwen": 403, "openai/gpt-4o": 403, "anthropic/opus": 403, "opus": 403, "nothing": 404} {
				if p := f.Routing().PlanFor(tc.key, id, ""); p.Rejection.Status == 0 || p.Rejection.Status >= 500 {
					status = 200
				}
				if got, body := f.get("/v1/models/"+id, "X-Api-Key", "k"); got != status {
					t.Errorf("%s: %d %s, want %d", id, got, body, status)
				}
			}
		})
	}
}
