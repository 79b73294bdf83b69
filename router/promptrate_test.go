package router

import (
	"net/http"
	"testing"

	"github.com/llmsup/llmsup/router/backend"
)

// The time to the first token of streams, and of whole answers that llmsup has as streams, says
// how fast the server processes prompts.
func TestPromptRate(t *testing.T) {
	const usage = `data: {"choices":[],"usage":{"prompt_tokens":1100,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":100}}}` + "\n\n"
	for name, tc := range map[string]struct {
		local  http.HandlerFunc
		stream bool
		want   bool
	}{
		"a stream":           {sends(ends, roleEvent, textEvent, finalEvent, usage, doneEvent), true, true},
		"a whole answer":     {sends(ends, roleEvent, textEvent, finalEvent, usage, doneEvent), false, true},
		"no cached tokens":   {sends(ends, roleEvent, textEvent, finalEvent, usageEvent, doneEvent), true, false},
		"a stream that ends": {sends(ends, roleEvent, textEvent), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tc.local, answers)
			f.state.edit(func(s *backend.LocalState) { s.Slots, s.SupportsAggregation = 2, true })
			f.chat("local/alone", tc.stream)
			f.waitIdle()
			if got := f.router.Load("qwen").PromptRate; got > 0 != tc.want {
				t.Errorf("%v tokens per second", got)
			}
		})
	}
}
