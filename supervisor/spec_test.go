package supervisor

import (
	"slices"
	"testing"
)

func TestShards(t *testing.T) {
	for model, want := range map[string][]string{
		"/m/a.gguf":                {"/m/a.gguf"},
		"/m/a-00001-of-00003.gguf": {"/m/a-00001-of-00003.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00003-of-00003.gguf"},
	} {
		if got := shards(model); !slices.Equal(got, want) {
			t.Errorf("shards(%s) = %q, want %q", model, got, want)
		}
	}
}
