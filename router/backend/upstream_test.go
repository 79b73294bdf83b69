package backend

import (
	"net/http"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
)

func TestKeepAliveTimeout(t *testing.T) {
	for value, want := range map[string]string{
		"timeout=5": "5s", "timeout=5, max=100": "5s", "max=100,timeout=5": "5s", "Timeout = 5": "5s", `timeout="5"`: "5s", "timeout=0": "0s",
		"": "", "timeout": "", "timeout=": "", "timeout=-1": "", "timeout=x": "", "max=5": "", "300": "", "timeout=1e9": "",
	} {
		got := ""
		if limit, known := keepAliveTimeout(http.Header{"Keep-Alive": strings.Split(value, "\n")}); known {
			got = limit.String()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// TestMetered: an upstream is metered if it has a key, unless billing says otherwise.
func TestMetered(t *testing.T) {
	for _, tc := range []struct {
		key     string
		billing models.Billing
		paid    bool
	}{{"sk-1", "", true}, {"", "", false}, {"sk-1", models.Free, false}, {"", models.Metered, true}} {
		b := &Upstream{config: UpstreamConfig{Key: tc.key, Billing: tc.billing}}
		if b.Info().Metered != tc.paid {
			t.Errorf("key %q, billing %q: metered %t", tc.key, tc.billing, b.Info().Metered)
		}
	}
}

func TestAddressOf(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"https://a/v1", "/v1/images/edits"}: "https://a/v1/images/edits",
		{"https://a/api", "/v1/moderations"}: "https://a/api/moderations",
		{"https://a/v1", "/v2/rerank"}:       "https://a/v2/rerank",
		{"https://a/v2", "/v2/rerank"}:       "https://a/v2/rerank",
		{"https://a/api/v1", "/v2/rerank"}:   "https://a/api/v2/rerank",
		{"https://a/api", "/v2/rerank"}:      "https://a/api/v2/rerank",
	} {
		if got := addressOf(in[0], in[1]); got != want {
			t.Errorf("%s at %s: %s, want %s", in[1], in[0], got, want)
		}
	}
}
