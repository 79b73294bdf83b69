package router

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/router/wire"
)

// TestEngineRejections: a request that llama-server cannot serve is a 400 which no client
// repeats, though llama-server answers 500. If the route has a fallback, that is asked.
func TestEngineRejections(t *testing.T) {
	chats := newEngineFixture(t, startEngine(t))
	embeds := newEngineFixture(t, startEngine(t, "--embeddings", "--pooling", "mean", "--batch-size", "64", "--ubatch-size", "64"))
	plain := newEngineFixture(t, startEngine(t, "--no-jinja", "--chat-template", "chatml"))
	bert := newEngineFixture(t, startEngine(t, "--model", demotest.Encoder(t, demo.Encoder{}), "--embeddings", "--ctx-size", "512"))
	const image = `{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}`
	for name, tc := range map[string]struct {
		b          *fixture
		path, body string // the body without its model
		code       string
		message    string // what the error's message contains
	}{
		"an image":     {chats, "/v1/chat/completions", `"messages":[{"role":"user","content":[` + image + `]}]`, "unsupported", "image input is not supported"},
		"audio":        {chats, "/v1/chat/completions", `"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}]}]`, "unsupported", "choose a model that reads such input"},
		"a response":   {chats, "/v1/responses", `"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}]`, "unsupported", "image input is not supported"},
		"a message":    {chats, "/v1/messages", `"max_tokens":5,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}]`, "", "image input is not supported"},
		"no messages":  {chats, "/v1/messages", `"max_tokens":5`, "", "'messages' is required"},
		"no role":      {chats, "/v1/chat/completions", `"messages":[{"content":"x"}]`, "invalid_body", "Missing 'role'"},
		"odd tools":    {chats, "/v1/chat/completions", `"messages":[],"tools":"x"`, "invalid_body", "Expected 'tools' to be an array"},
		"two grammars": {chats, "/v1/chat/completions", `"messages":[],"json_schema":{"type":"object"},"grammar":"root ::= \"a\""`, "invalid_body", "Cannot use both"},
		"odd format":   {chats, "/v1/chat/completions", `"messages":[],"reasoning_format":"parsed"`, "invalid_body", "Unknown reasoning format: parsed"},
		"tools":        {plain, "/v1/chat/completions", `"messages":[],"tools":[{"type":"function","function":{"name":"a","parameters":{}}}]`, "unsupported", "--jinja"},
		"a chat":       {bert, "/v1/chat/completions", `"messages":[{"role":"user","content":"cat"}]`, "unsupported", "writes no text"},
		"a prompt":     {bert, "/v1/completions", `"prompt":"cat"`, "unsupported", "writes no text"},
		"a big token":  {chats, "/detokenize", `"tokens":[99999999]`, "invalid_body", "has no token of this number"},
		"a long text":  {embeds, "/v1/embeddings", `"input":"` + strings.Repeat(" 7", 100) + `"`, "context_overflow", "raise --batch-size"},
	} {
		for _, stream := range []string{"", `"stream":true,`} {
			r := tc.b.post(tc.path, `{"model":"local/alone",`+stream+tc.body+`}`)
			e := gjson.Get(r.body, "error")
			if r.status != 400 || e.Get("type").Str != wire.TypeInvalid || e.Get("code").Str != tc.code || !strings.Contains(e.Get("message").Str, tc.message) {
				t.Errorf("%s: %d %s", name, r.status, r.body)
			}
			if r.header.Get("X-Should-Retry") != "false" || (gjson.Get(r.body, "type").Str == "error") != (tc.path == "/v1/messages") {
				t.Errorf("%s: %v %s", name, r.header, r.body)
			}
		}
		if tc.path != "/v1/chat/completions" || strings.Contains(tc.body, "grammar") { // the fixture's fallback only chats, and has no grammars
			continue
		}
		want := strings.Replace(tc.code, "invalid_body", "status", 1)
		if r := tc.b.post(tc.path, `{"model":"local/qwen",`+tc.body+`}`); r.status != 200 || r.backend() != "openrouter" || r.reason() != want {
			t.Errorf("%s, with a fallback: %+v", name, r)
		}
	}
}
