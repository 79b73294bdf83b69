package router

import (
	"testing"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
)

// TestCutMessageIsCounted: of a message that breaks, the tokens are those that were
// seen, and not the nought that it began with.
func TestCutMessageIsCounted(t *testing.T) {
	edit, books := withBooks(t, budget.Limits{})
	delta := "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"
	b := newBench(t, nil, sends(breaks,
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n", delta, delta, delta), edit)
	b.post("/v1/messages", `{"model":"gpt-4o","stream":true,"max_tokens":9,"messages":[]}`)
	if got := sums(t, books, ledger.ByRoute).Total; got.Partial != 1 || got.Prompt != 10 || got.Completion != 3 || got.UnknownCost != 1 {
		t.Errorf("%+v", got)
	}
}
