package router

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestFinishReasonAtLimit: an answer that lacks only its end is completed if everything
// that is missing is known, and not paid for elsewhere.
func TestFinishReasonAtLimit(t *testing.T) {
	const figures = `,"prompt_n":3,"cache_n":2`
	one, two := localChunk(" 1", "1"+figures), localChunk(" 2", "2"+figures)
	finish := func(reason string) string {
		return `data: {"choices":[{"finish_reason":"` + reason + `","index":0,"delta":{}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk"}` + "\n\n"
	}
	for name, tc := range map[string]struct {
		body   string
		stream string
		finish string // "" = it is given away
	}{
		"only the end mark":           {`"max_tokens":100`, localFirst + one + two + strings.TrimSuffix(localLast, doneEvent), "stop"},
		"at its limit":                {`"max_tokens":2`, localFirst + one + two, "length"},
		"at its limit, in an event":   {`"max_tokens":2`, localFirst + one + two + `data: {"cho`, "length"},
		"behind its finish":           {`"n_predict":2`, localFirst + one + two + finish("length"), "length"},
		"it ended by itself":          {`"max_tokens":100`, localFirst + one + two + finish("stop"), ""},
		"it ended by itself, just so": {`"max_tokens":2`, localFirst + one + two + finish("stop"), ""},
		"below its limit":             {`"max_tokens":3`, localFirst + one + two, ""},
		"no limit":                    {`"max_tokens":-1`, localFirst + one + two, ""},
		"two limits":                  {`"max_tokens":2,"max_completion_tokens":9`, localFirst + one + two, ""},
		"a stop string":               {`"max_tokens":2,"stop":"x"`, localFirst + one + two, ""},
		"tools":                       {`"max_tokens":2,"tools":[{"type":"function"}]`, localFirst + one + two, ""},
		"a format":                    {`"max_tokens":2,"response_format":{"type":"json_object"}`, localFirst + one + two, ""},
		"a token that is not seen":    {`"max_tokens":2`, localFirst + one + localChunk("", "2"+figures), ""},
		"unknown prompt length":       {`"max_tokens":2`, localFirst + localChunk(" 1", "1") + localChunk(" 2", "2"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newStreamingFixture(t, sends(breaks, tc.stream), answers)
			r := b.post("/v1/chat/completions", `{"model":"local/qwen",`+tc.body+`,"messages":[{"role":"user","content":"count"}]}`)
			if tc.finish == "" {
				if r.backend() != "openrouter" || r.body != wholeChat {
					t.Errorf("%+v", r)
				}
				return
			}
			answer := gjson.Parse(r.body)
			choice, used := answer.Get("choices.0"), answer.Get("usage")
			if r.backend() != "qwen" || len(b.cloud.requests()) != 0 || choice.Get("message.content").Str != " 1 2" || choice.Get("finish_reason").Str != tc.finish ||
				used.Get("completion_tokens").Int() != 2 || used.Get("prompt_tokens").Int() != 5 || used.Get("total_tokens").Int() != 7 {
				t.Errorf("%d paid calls, %+v", len(b.cloud.requests()), r)
			}
			if !strings.Contains(b.log.String(), "lost the connection after the end of the text") {
				t.Error("the log does not have it")
			}
		})
	}
}
