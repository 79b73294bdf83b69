package router

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestMended: an answer of which only the end was lost is not paid for elsewhere,
// if all that is missing is known.
func TestMended(t *testing.T) {
	const figures = `,"prompt_n":3,"cache_n":2`
	one, two := piece(" 1", "1"+figures), piece(" 2", "2"+figures)
	finish := func(reason string) string {
		return `data: {"choices":[{"finish_reason":"` + reason + `","index":0,"delta":{}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk"}` + "\n\n"
	}
	for name, tc := range map[string]struct {
		body   string
		stream string
		finish string // "" = it is given away
	}{
		"only the end mark":           {`"max_tokens":100`, firstPiece + one + two + strings.TrimSuffix(lastPiece, doneEvent), "stop"},
		"at its limit":                {`"max_tokens":2`, firstPiece + one + two, "length"},
		"at its limit, in an event":   {`"max_tokens":2`, firstPiece + one + two + `data: {"cho`, "length"},
		"behind its finish":           {`"n_predict":2`, firstPiece + one + two + finish("length"), "length"},
		"it ended by itself":          {`"max_tokens":100`, firstPiece + one + two + finish("stop"), ""},
		"it ended by itself, just so": {`"max_tokens":2`, firstPiece + one + two + finish("stop"), ""},
		"below its limit":             {`"max_tokens":3`, firstPiece + one + two, ""},
		"no limit":                    {`"max_tokens":-1`, firstPiece + one + two, ""},
		"two limits":                  {`"max_tokens":2,"max_completion_tokens":9`, firstPiece + one + two, ""},
		"a stop string":               {`"max_tokens":2,"stop":"x"`, firstPiece + one + two, ""},
		"tools":                       {`"max_tokens":2,"tools":[{"type":"function"}]`, firstPiece + one + two, ""},
		"a format":                    {`"max_tokens":2,"response_format":{"type":"json_object"}`, firstPiece + one + two, ""},
		"a token that is not seen":    {`"max_tokens":2`, firstPiece + one + piece("", "2"+figures), ""},
		"nobody knows the prompt":     {`"max_tokens":2`, firstPiece + piece(" 1", "1") + piece(" 2", "2"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := streaming(t, sends(breaks, tc.stream), answers)
			r := b.post("/v1/chat/completions", `{"model":"local/qwen",`+tc.body+`,"messages":[{"role":"user","content":"count"}]}`)
			if tc.finish == "" {
				if r.backend() != "openrouter" || r.body != wholeChat {
					t.Errorf("%+v", r)
				}
				return
			}
			answer := gjson.Parse(r.body)
			choice, used := answer.Get("choices.0"), answer.Get("usage")
			if r.backend() != "qwen" || len(b.cloud.calls()) != 0 || choice.Get("message.content").Str != " 1 2" || choice.Get("finish_reason").Str != tc.finish ||
				used.Get("completion_tokens").Int() != 2 || used.Get("prompt_tokens").Int() != 5 || used.Get("total_tokens").Int() != 7 {
				t.Errorf("%d paid calls, %+v", len(b.cloud.calls()), r)
			}
			if !strings.Contains(b.log.String(), "broke its answer off at the end") {
				t.Error("it is not told")
			}
		})
	}
}

// TestEndMarkLost: a stream that only lacks its end mark gets what its events told
// of its usage, which counts tokens without a text, too.
func TestEndMarkLost(t *testing.T) {
	last := `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"prompt_n":3,"cache_n":2,"predicted_n":4}}` + "\n\n"
	b := newBench(t, sends(breaks, opening, said(" 1"), said(" 2"), last), answers, resuming)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}`)
	if want := `"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9}`; !strings.Contains(r.body, want) || !strings.HasSuffix(r.body, doneEvent) || len(b.cloud.calls()) != 0 {
		t.Errorf("no %s in\n%s", want, r.body)
	}
	if !strings.Contains(b.log.String(), `"completion_tokens":4`) {
		t.Errorf("log: %s", b.log)
	}
}
