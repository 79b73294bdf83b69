package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
)

// TestNodeSDKs runs SDKs from npm with only the base URL and the model changed. Their
// scripts print a JSON object with what each call returned.
func TestNodeSDKs(t *testing.T) {
	t.Parallel()
	needClients(t)
	for name, tc := range map[string]struct {
		embeddings int // calls to the upstream
		want       string
	}{
		"openai.mjs": {1, `{"chat":" 1 2 3 4 5 6","stream":" 1 2 3 4 5 6","streamTokens":6,"helper":" 1 2 3 4 5 6","completion":" 4 5 6",` +
			`"embedding":[0.5,-2],"models":true,"model":"local/demo","unknownModel":["NotFoundError",404,"model_not_found"],` +
			`"badCall":["BadRequestError",400],"aborted":true}`},
		"ai-sdk.mjs": {1, `{"compatible":[" 1 2 3 4 5 6","length",6],"compatibleStream":[" 1 2 3 4 5 6","length",6],` +
			`"openaiChat":[" 1 2 3 4 5 6","length",6],"openaiChatStream":[" 1 2 3 4 5 6","length",6],` +
			`"anthropic":[" 1 2 3 4 5 6","length",6],"anthropicStream":[" 1 2 3 4 5 6","length",6],` +
			`"embedding":[0.5,-2],"unknownModel":["AI_APICallError",404,false]}`},
		"anthropic.mjs": {0, `{"message":[" 1 2 3 4 5 6","max_tokens",6],"stream":[" 1 2 3 4 5 6","max_tokens",6],"counted":true,` +
			`"unknownModel":["NotFoundError",404,"not_found_error"]}`},
	} {
		t.Run(strings.TrimSuffix(name, ".mjs"), func(t *testing.T) {
			t.Parallel()
			upstream := newScriptedUpstream(t, scriptedAnswer{body: embeddingAnswer(name == "openai.mjs", 0.5, -2)})
			config := newTestConfig(t, "upstreams: {lab: {base_url: \""+upstream.URL+"/v1\"}}\nroutes: {cloud: {primary: lab}}\n")
			in := launch(t, nil, "--demo", "--config", config.path)
			in.awaitReady()
			c := newClient(t, in.url)
			if got := strings.TrimSpace(c.script(name)); got != tc.want {
				t.Errorf("it printed\n%s\nwant\n%s", got, tc.want)
			}
			if calls := upstream.received(); len(calls) != tc.embeddings {
				t.Errorf("the upstream got %d calls: %v", len(calls), calls)
			}
		})
	}
}

// embeddingAnswer is the answer of /v1/embeddings with one vector.
func embeddingAnswer(inBase64 bool, vector ...float32) string {
	text := strings.ReplaceAll(fmt.Sprint(vector), " ", ",")
	if inBase64 {
		var raw []byte
		for _, v := range vector {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		text = `"` + base64.StdEncoding.EncodeToString(raw) + `"`
	}
	return `{"object":"list","model":"cloud","data":[{"object":"embedding","index":0,"embedding":` + text + `}],"usage":{"prompt_tokens":1,"total_tokens":1}}`
}
