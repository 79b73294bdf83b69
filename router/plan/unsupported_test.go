package plan

import (
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// TestRequiredLocalField: which values bind a call, by path.
func TestRequiredLocalField(t *testing.T) {
	const textPath = "/v1/completions"
	for _, tc := range []struct{ path, fields, want string }{
		{chatPath, `"grammar":"x"`, "grammar"},
		{chatPath, `"gr\u0061mmar":"x"`, "grammar"},
		{chatPath, `"grammar":"x","grammar":""`, "grammar"}, // readers differ in which one they take
		{chatPath, `"grammar":"","json_schema":null,"samplers":[],"lora":[],"chat_template_kwargs":{}`, ""},
		{chatPath, `"json_schema":{}`, "json_schema"},
		{chatPath, `"n_predict":-1,"mirostat":0,"typical_p":1.0,"repeat_penalty":1,"top_n_sigma":-1,"min_keep":0,"n_probs":0,"n_cmpl":1`, ""},
		{chatPath, `"n_predict":0`, "n_predict"},
		{chatPath, `"xtc_probability":0,"dry_multiplier":0.0,"dynatemp_range":0,"ignore_eos":false,"t_max_predict_ms":0`, ""},
		{chatPath, `"mirostat_tau":5,"dry_base":1.75,"repeat_last_n":64,"cache_prompt":true,"id_slot":0,"timings_per_token":true`, ""},
		{chatPath, `"temperature":1,"top_k":4,"min_p":0.1,"seed":1,"response_format":{"type":"json_object"},"repetition_penalty":2`, ""},
		{chatPath, `"logit_bias":{"5":1}`, ""},
		{chatPath, `"logit_bias":[[5,1]]`, "logit_bias"},
		{chatPath, `"reasoning_format":"auto","add_generation_prompt":true`, ""},
		{chatPath, `"reasoning_format":"none"`, "reasoning_format"},
		{chatPath, `"reasoning_format":"deepseek-legacy"`, "reasoning_format"},
		{chatPath, `"reasoning_format":"parsed"`, ""}, // Groq's
		{chatPath, `"reasoning_format":5`, ""},
		{chatPath, `"response_format":{"type":"json_object","schema":{"type":"null"}}`, "response_format"},
		{chatPath, `"response_format":{"type":"json_object","schema":null}`, ""},
		{chatPath, `"response_format":{"type":"json_schema","json_schema":{},"schema":{"type":"null"}}`, ""},
		{textPath, `"response_format":{"type":"json_object","schema":{"type":"null"}}`, ""},
		{"/v1/responses", `"response_format":{"type":"json_object","schema":{"type":"null"}}`, "response_format"},
		{"/v1/embeddings", `"embd_normalize":-1`, "embd_normalize"},
		{"/v1/embeddings", `"embd_normalize":null`, ""},
		{chatPath, `"embd_normalize":-1`, ""},
		{chatPath, `"messages":[{"grammar":"x"}]`, ""},
		{textPath, `"chat_template_kwargs":{"a":1}`, ""},
		{textPath, `"n_predict":5`, "n_predict"},
		{"/v1/responses", `"n_predict":5`, "n_predict"},
		{"/v1/messages", `"n_predict":5,"grammar":"x"`, ""}, // llama-server ignores them there
		{"/v1/messages", `"n_predict":5,"chat_template_kwargs":{"a":1}`, "chat_template_kwargs"},
		{"/v1/embeddings", `"grammar":"x"`, ""},
	} {
		body, err := request.ParseBodyFor(llamacpp.Engine{}.Capabilities(nil).Fields, []byte(`{`+tc.fields+`}`))
		if err != nil {
			t.Fatal(err)
		}
		c := &request.Request{Path: tc.path, Body: body}
		if got := RequiredLocalField(c); got != tc.want {
			t.Errorf("%s {%s}: bound by %q, want %q", tc.path, tc.fields, got, tc.want)
		}
	}
}

// TestGeneratesNothingForLocalField: neither the server nor the fallback can answer a call for
// text with a field that only llama-server knows. The client has to change it.
func TestGeneratesNothingForLocalField(t *testing.T) {
	body, err := request.ParseBodyFor(llamacpp.Engine{}.Capabilities(nil).Fields, []byte(`{"model":"m","grammar":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	p := newRouting(t, "embeds", "ready", map[string]models.Route{"m": {Primary: "qwen", Fallback: "cloud"}}).PlanFor(nil, "m", chatPath)
	p.RequireLocalField(&request.Request{Path: chatPath, Body: body})
	if e := p.Rejection; e.Status != 400 || e.RetryHelps() || e.RetryAfter != 0 {
		t.Errorf("%+v", e)
	}
}

// TestGeneratesNothing: only calls for text are refused, and only if it is known that the model
// generates none.
func TestGeneratesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		model *models.Description
		path  string
		kept  bool
	}{
		"a chat":                   {embeds, chatPath, false},
		"an embedding":             {embeds, "/v1/embeddings", true},
		"any path":                 {embeds, "", true},
		"a model that generates":   {&models.Description{Abilities: []models.Ability{models.Chat, models.Completion, models.Embedding}}, chatPath, true},
		"an unknown model":         {nil, chatPath, true},
		"a model of unknown skill": {&models.Description{CtxSize: 512}, chatPath, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newRouting(t, "ready", "ready", map[string]models.Route{"model": {Primary: "qwen"}}, func(cfg *Config) {
				cfg.Locals["qwen"] = fakeLocal{Alive: true, Description: tt.model}
			})
			p := s.PlanFor(nil, "model", tt.path)
			if kept := names(p) == "qwen"; kept != tt.kept || (p.Rejection.Status == 400) == tt.kept {
				t.Errorf("candidates %q, error %+v", names(p), p.Rejection)
			}
		})
	}
}
