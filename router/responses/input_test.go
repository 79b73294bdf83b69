package responses

import "testing"

func TestCompleteInput(t *testing.T) {
	for name, tc := range map[string]struct{ request, want string }{
		"without a type":      {`{"input": [{"role":"user","content":"a"}, {"role":"assistant","content":"b"},{ "content":[],"role":"assistant"}], "model":"m"}`, `{"input": [{"role":"user","content":"a"}, {"type":"message","role":"assistant","content":"b"},{"type":"message", "content":[],"role":"assistant"}], "model":"m"}`},
		"the last input":      {`{"input":[{"role":"assistant"}],"input":[{"role":"assistant"}]}`, `{"input":[{"role":"assistant"}],"input":[{"type":"message","role":"assistant"}]}`},
		"reasoning":           {`{"input":[{"type":"reasoning","id":"r","summary":[]} , {"type":"reasoning", "content" : null}]}`, `{"input":[{"content":[{"type":"reasoning_text","text":""}],"type":"reasoning","id":"r","summary":[]} , {"type":"reasoning", "content" : [{"type":"reasoning_text","text":""}]}]}`},
		"reasoning with text": {`{"input":[{"type":"reasoning","content":[{"type":"reasoning_text","text":"a"}]},{"type":"reasoning","content":[]}]}`, ""},
		"with a type":         {`{"input":[{"type":"message","role":"assistant"},{"role":"assistant","type":null}]}`, ""},
		"a text":              {`{"input":"\"assistant\""}`, ""},
		"no input":            {`{"role":"assistant"}`, ""},
		"no objects":          {`{"input":["assistant",5,null]}`, ""},
		"an item, not a list": {`{"input":{"role":"assistant"}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := CompleteInput([]byte(tc.request))
			if string(got) != tc.want || ok != (tc.want != "") {
				t.Errorf("%t, %s", ok, got)
			}
		})
	}
}
