package router

import (
	"testing"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/wire"
)

// TestMessagesUsage: Anthropic counts a prompt in three parts, and an event need not
// tell all of them.
func TestMessagesUsage(t *testing.T) {
	const start = `{"message":{"usage":{"input_tokens":10,"cache_read_input_tokens":1000,"cache_creation_input_tokens":5,"output_tokens":1}}}`
	for name, tc := range map[string]struct {
		start, delta string
		prompt       int64
	}{
		"the answer alone":   {start, `{"usage":{"output_tokens":50}}`, 1015},
		"all of it again":    {start, `{"usage":{"input_tokens":10,"cache_read_input_tokens":1000,"cache_creation_input_tokens":5,"output_tokens":50}}`, 1015},
		"one part":           {start, `{"usage":{"input_tokens":12,"output_tokens":50}}`, 1017},
		"nobody knows":       {start, `{"usage":{"input_tokens":12,"cache_read_input_tokens":null,"output_tokens":50}}`, 1017},
		"first it is nought": {`{"message":{"usage":{"input_tokens":0,"output_tokens":0}}}`, `{"usage":{"input_tokens":7,"cache_read_input_tokens":1000,"output_tokens":50}}`, 1007},
	} {
		var u wire.Usage
		u.Merge(wire.Messages{}.InspectEvent(wire.Event{Name: []byte("message_start"), Data: []byte(tc.start)}, false).Usage)
		if u.Completion != nil {
			t.Errorf("%s: before its first token an answer has %d", name, *u.Completion)
		}
		u.Merge(wire.Messages{}.InspectEvent(wire.Event{Name: []byte("message_delta"), Data: []byte(tc.delta)}, true).Usage)
		if u.Prompt == nil || *u.Prompt != tc.prompt || *u.Cached != 1000 || *u.Completion != 50 {
			t.Errorf("%s: %+v", name, u)
		}
	}
}

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
