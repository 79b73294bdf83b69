package boxes

import (
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/pick"
)

// TestHop: the other box reads what this one has written.
func TestHop(t *testing.T) {
	const s = time.Second
	for name, tc := range map[string]struct {
		hop  Hop
		text string
	}{
		"waits":               {Hop{Box: "a code", Server: "qwen", Timeout: s}, "a code qwen wait 1000"},
		"moves":               {Hop{Box: "a code", Server: "q w", Moves: true, Timeout: s}, "a code q+w move 1000"},
		"begins at once":      {Hop{Box: "a code", Server: "qwen", Moves: true, Timeout: s, MaxWait: pick.AtMost(0)}, "a code qwen move 1000 0"},
		"waits for a slot":    {Hop{Box: "a code", Server: "qwen", Moves: true, Timeout: s, MaxWait: pick.AtMost(s)}, "a code qwen move 1000 1000"},
		"waits for the model": {Hop{Box: "a code", Server: "qwen", Moves: true, Timeout: 9 * s, ModelWait: 4 * s, MaxWait: pick.AtMost(s)}, "a code qwen 4000 9000 1000"},
	} {
		if got := tc.hop.String(); got != tc.text {
			t.Errorf("%s: %q, want %q", name, got, tc.text)
		}
		tc.hop.Box = "a"
		if got, code, ok := ParseHop(tc.text); !ok || code != "code" || got != tc.hop {
			t.Errorf("%s: %+v, %q, %v; want %+v", name, got, code, ok, tc.hop)
		}
	}
	if h, _, ok := ParseHop("a code qwen move 1000 0 new field"); !ok || h.Timeout != s {
		t.Errorf("with the fields of a later version: %+v, %v", h, ok)
	}
	for _, text := range []string{"", "a code qwen", "a code qwen soon 1000", "a code qwen -1 1000", "a code qwen move 0", strings.Repeat("9", 30)} {
		if h, _, ok := ParseHop(text); ok {
			t.Errorf("%q is taken for %+v", text, h)
		}
	}
}
