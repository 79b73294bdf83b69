package vram

import "testing"

// TestEnvironmentSetting: which of llama-server's variables make the estimate of its VRAM
// unreliable.
func TestEnvironmentSetting(t *testing.T) {
	for name, tc := range map[string]struct {
		environ []string
		want    string
	}{
		"none":             {[]string{"PATH=/bin", "LLAMA_API_KEY=x"}, ""},
		"threads":          {[]string{"LLAMA_ARG_THREADS=1", "LLAMA_ARG_THREADS_HTTP=9"}, ""},
		"an empty one":     {[]string{"LLAMA_ARG_CTX_SIZE="}, ""},
		"a larger context": {[]string{"LLAMA_ARG_THREADS=1", "LLAMA_ARG_CTX_SIZE=99999"}, "LLAMA_ARG_CTX_SIZE"},
	} {
		if got := EnvironmentSetting(tc.environ); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
