package router

import "testing"

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
		var u usage
		u.merge(messages{}.read(event{name: []byte("message_start"), data: []byte(tc.start)}, false).usage)
		u.merge(messages{}.read(event{name: []byte("message_delta"), data: []byte(tc.delta)}, true).usage)
		if u.prompt == nil || *u.prompt != tc.prompt || *u.cached != 1000 || *u.completion != 50 {
			t.Errorf("%s: %+v", name, u)
		}
	}
}
