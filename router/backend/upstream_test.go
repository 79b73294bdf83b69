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
