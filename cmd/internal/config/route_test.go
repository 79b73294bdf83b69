package config

import (
	"strings"
	"testing"
)

func TestFallbackOn(t *testing.T) {
	const head = "routes:\n  r: {primary: openrouter, "
	for text, want := range map[string]string{
		head + "fallback: http://x/v1, fallback_on: [timeout, lost]}": "",
		head + "fallback: http://x/v1, fallback_on: []}":              "",
		head + "fallback_on: [timeout]}":                              "f.yaml:2: routes.r.fallback_on: needs a fallback",
		head + "fallback: http://x/v1, fallback_on: [slow]}":          `f.yaml:2: routes.r.fallback_on: "slow" is no reason; there are starting, loading,`,
		head + "fallback: http://x/v1, fallback_on: {a: b}}":          "f.yaml:2: wrong kind of value; want a list",
	} {
		c, err := parse("f.yaml", []byte(text))
		if err == nil {
			err = c.Resolve(noHeader)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
