package wire

import (
	"testing"

	"github.com/tidwall/gjson"
)

// summarizeChoices finds in one pass what gjson finds field by field.
func TestSummarizeChoices(t *testing.T) {
	for name, tc := range map[string]struct {
		text  string
		valid bool
	}{
		"an answer":            {`{"choices":[{"message":{"content":"usage"}}],"usage":{"prompt_tokens":1},"timings":{"prompt_n":2}}`, true},
		"an error":             {` {"error" : {"message":"no"} , "other":[{"usage":{}}]}`, true},
		"null":                 {`{"error":null,"choices":null}`, true},
		"twice":                {`{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}`, true},
		"an escaped key":       {`{"\u0065rror":"no"}`, true},
		"one within another":   {`{"x":{"error":"no","choices":[1]}}`, true},
		"nothing":              {`{}`, true},
		"an array":             {`[{"error":"no"}]`, false},
		"a text":               {`"error"`, false},
		"an object cut off":    {`{"error":"no"`, false},
		"something behind one": {`{"error":"no"}x`, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, valid := summarizeChoices([]byte(tc.text))
			if valid != tc.valid {
				t.Fatalf("valid is %v", valid)
			}
			if !valid {
				return
			}
			for field, got := range map[string]gjson.Result{"error": o.Err, "choices": o.Choices, "usage": o.usage, "timings": o.Timings} {
				if want := gjson.Get(tc.text, field); got.Raw != want.Raw || got.Type != want.Type || got.Str != want.Str {
					t.Errorf("%s is %q, want %q", field, got.Raw, want.Raw)
				}
			}
		})
	}
}
