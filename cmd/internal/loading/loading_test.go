package loading

import (
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/scheduler"
)

// TestAfterUnload: llmsup unload says of a model that never fits why no call loads it.
func TestAfterUnload(t *testing.T) {
	for name, tc := range map[string]struct {
		wait *scheduler.Wait
		want string
	}{
		"nothing waits": {nil, "a call loads it"},
		"a call waits":  {&scheduler.Wait{Reason: "the VRAM is held"}, "a call loads it"},
		"it never fits": {&scheduler.Wait{Never: true, Reason: "it needs 9 TB"}, "it cannot be loaded: it needs 9 TB"},
	} {
		if got := afterUnload(ondemand.Figures{Wait: tc.wait}); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
