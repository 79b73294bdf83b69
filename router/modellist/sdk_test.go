package modellist

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
)

// many returns a fixture whose upstream lists n models, m/0 to m/<n-1>.
func many(t *testing.T, n int) *fixture {
	f := newFixture(t, map[string]models.Route{"*/*": {Primary: "openrouter"}})
	var list []models.Listed
	for i := range n {
		l := gpt
		l.ID = fmt.Sprintf("m/%d", i)
		list = append(list, l)
	}
	f.catalog.set("openrouter", list...)
	return f
}

func TestOpenAISDK(t *testing.T) {
	f := many(t, 300)
	server := httptest.NewServer(f)
	defer server.Close()
	client := openai.NewClient(option.WithBaseURL(server.URL+"/v1"), option.WithAPIKey("unused"), option.WithMaxRetries(0))
	listed := client.Models.ListAutoPaging(t.Context())
	n := 0
	for ; listed.Next(); n++ {
		if m := listed.Current(); m.ID != fmt.Sprintf("m/%d", n) || m.Object != "model" || m.OwnedBy != "openrouter" || m.Created != gpt.Created {
			t.Errorf("%+v", m)
		}
	}
	if n != 300 || listed.Err() != nil {
		t.Errorf("%d models, %v", n, listed.Err())
	}
	one, err := client.Models.Get(t.Context(), "m/7")
	if err != nil || one.ID != "m/7" || gjson.Get(one.RawJSON(), "context_length").Int() != 128000 {
		t.Errorf("%+v, %v", one, err)
	}
	_, err = client.Models.Get(t.Context(), "none")
	if e := (*openai.Error)(nil); !errors.As(err, &e) || e.StatusCode != 404 || e.Code != "model_not_found" {
		t.Errorf("%v", err)
	}
}

func TestAnthropicSDK(t *testing.T) {
	f := many(t, 300)
	server := httptest.NewServer(f)
	defer server.Close()
	client := anthropic.NewClient(anthropicoption.WithBaseURL(server.URL), anthropicoption.WithAPIKey("unused"), anthropicoption.WithMaxRetries(0))
	for name, params := range map[string]anthropic.ModelListParams{
		"by default": {}, "in small pages": {Limit: anthropic.Int(7)}, "in one page": {Limit: anthropic.Int(1000)},
		"after one": {AfterID: anthropic.String("m/99"), Limit: anthropic.Int(10)}, "before one": {BeforeID: anthropic.String("m/50"), Limit: anthropic.Int(20)},
	} {
		first, last := 0, 299
		switch name {
		case "after one":
			first = 100
		case "before one":
			last = 49
		}
		seen := map[string]bool{}
		listed := client.Models.ListAutoPaging(t.Context(), params)
		for listed.Next() {
			m := listed.Current()
			if seen[m.ID] || m.DisplayName != gpt.Name || m.CreatedAt.Unix() != gpt.Created || m.MaxInputTokens != 128000 || m.MaxTokens != 16384 || m.Type != "model" {
				t.Errorf("%s: %+v", name, m)
			}
			seen[m.ID] = true
		}
		if len(seen) != last-first+1 || listed.Err() != nil || !seen[fmt.Sprintf("m/%d", first)] || !seen[fmt.Sprintf("m/%d", last)] {
			t.Errorf("%s: %d models, %v", name, len(seen), listed.Err())
		}
	}
	one, err := client.Models.Get(t.Context(), "m/7", anthropic.ModelGetParams{})
	if err != nil || one.ID != "m/7" || one.DisplayName != gpt.Name {
		t.Errorf("%+v, %v", one, err)
	}
	_, err = client.Models.Get(t.Context(), "none", anthropic.ModelGetParams{})
	if e := (*anthropic.Error)(nil); !errors.As(err, &e) || e.StatusCode != 404 || !strings.Contains(e.RawJSON(), `"not_found_error"`) {
		t.Errorf("%v", err)
	}
}

// TestAnthropicPages: where a page begins and ends, and what it says of the others.
func TestAnthropicPages(t *testing.T) {
	f := many(t, 5)
	for query, want := range map[string]string{
		"": "m/0 m/4 false", "?limit=5": "m/0 m/4 false", "?limit=4": "m/0 m/3 true", "?limit=2&after_id=m/1": "m/2 m/3 true", "?limit=2&after_id=m/2": "m/3 m/4 false",
		"?after_id=m/4": "  false", "?before_id=m/0": "  false", "?limit=2&before_id=m/3": "m/1 m/2 true", "?limit=2&before_id=m/2": "m/0 m/1 false",
		"?limit=0": "400 limit is \"0\", not a number between 1 and 1000", "?limit=1001": "400 limit", "?limit=x": "400 limit", "?limit=": "m/0 m/4 false",
		"?after_id=gone": "400 after_id is \"gone\", which is not in the list of models; start again without it", "?before_id=": "400 before_id", "?after_id=m/1&before_id=m/3": "400 before_id and after_id exclude each other",
	} {
		status, body := f.get("/v1/models"+query, "Anthropic-Version", "2023-06-01")
		got := fmt.Sprintf("%s %s %s", body.Get("first_id"), body.Get("last_id"), body.Get("has_more"))
		if status != 200 {
			got = fmt.Sprintf("%d %s", status, body.Get("error.message"))
		}
		if !strings.HasPrefix(got, want) || status != 200 && (body.Get("type").Str != "error" || body.Get("error.type").Str != "invalid_request_error") {
			t.Errorf("%s: %s, %s", query, got, body)
		}
		if status == 200 && (body.Get("first_id").Str != body.Get("data.0.id").Str || !body.Get("last_id").Exists()) {
			t.Errorf("%s: %s", query, body)
		}
	}
}
