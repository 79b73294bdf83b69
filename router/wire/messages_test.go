package wire

import "testing"

// Anthropic counts a prompt in three parts. An event may have only some of them.
func TestMessagesUsage(t *testing.T) {
	const start = `{"message":{"usage":{"input_tokens":10,"cache_read_input_tokens":1000,"cache_creation_input_tokens":5,"output_tokens":1}}}`
	for name, tc := range map[string]struct {
		start, delta string
		prompt       int64
	}{
		"completion only": {start, `{"usage":{"output_tokens":50}}`, 1015},
		"all figures":     {start, `{"usage":{"input_tokens":10,"cache_read_input_tokens":1000,"cache_creation_input_tokens":5,"output_tokens":50}}`, 1015},
		"one part":        {start, `{"usage":{"input_tokens":12,"output_tokens":50}}`, 1017},
		"null":            {start, `{"usage":{"input_tokens":12,"cache_read_input_tokens":null,"output_tokens":50}}`, 1017},
		"0 at first":      {`{"message":{"usage":{"input_tokens":0,"output_tokens":0}}}`, `{"usage":{"input_tokens":7,"cache_read_input_tokens":1000,"output_tokens":50}}`, 1007},
	} {
		var u Usage
		u.Merge(Messages{}.InspectEvent(Event{Name: []byte("message_start"), Data: []byte(tc.start)}, false).Usage)
		if u.Completion != nil {
			t.Errorf("%s: an answer that has not begun has %d tokens", name, *u.Completion)
		}
		u.Merge(Messages{}.InspectEvent(Event{Name: []byte("message_delta"), Data: []byte(tc.delta)}, true).Usage)
		if u.Prompt == nil || *u.Prompt != tc.prompt || *u.Cached != 1000 || *u.Completion != 50 {
			t.Errorf("%s: %+v", name, u)
		}
	}
}

func TestCompleteError(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"Anthropic's":   {`{"type":"error","error":{"type":"a","message":"b"}}`, `{"type":"error","error":{"type":"a","message":"b"}}`},
		"llama-server":  {` { "error":{"type":"a","n":1e400}}`, ` {"type":"error", "error":{"type":"a","n":1e400}}`},
		"OpenRouter":    {`{"error":{"code":404,"message":"b"},"user_id":"x"}`, `{"type":"error","error":{"type":"not_found_error","code":404,"message":"b"},"user_id":"x"}`},
		"text":          {`{"error":"a \"b\""}`, `{"type":"error","error":{"type":"not_found_error","message":"a \"b\""}}`},
		"empty":         {`{"error":{}}`, `{"type":"error","error":{}}`},
		"no error":      {`{"detail":"x"}`, `{"detail":"x"}`},
		"not an object": {`["error"]`, `["error"]`},
		"not JSON":      {`<html>`, `<html>`},
		"nothing":       {``, ``},
	} {
		if got := string(Messages{}.CompleteError(404, []byte(tc.body))); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
