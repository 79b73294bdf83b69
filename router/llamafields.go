package router

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Fields of a request that only llama-server knows: neither OpenAI's nor OpenRouter's
// reference has them, or not with such a value. An upstream ignores them, so a call that depends on one never
// moves there. A call depends on a field unless its value is null or switches the
// field off. Seen with build 11669.
var llamaFields = map[string]llamaField{
	// How long the answer may be, and what it may be.
	"n_predict": {binds: notNegative}, "t_max_predict_ms": {binds: positive}, "n_indent": {binds: positive},
	"n_cmpl": {binds: notOne}, "ignore_eos": {binds: wire.HasContent},
	"grammar": {binds: wire.HasContent}, "json_schema": {binds: given}, "lora": {binds: wire.HasContent},

	// How tokens are chosen.
	"samplers": {binds: wire.HasContent}, "mirostat": {binds: positive}, "typical_p": {binds: notOne}, "top_n_sigma": {binds: positive},
	"dynatemp_range": {binds: positive}, "xtc_probability": {binds: positive}, "dry_multiplier": {binds: positive},
	"repeat_penalty": {binds: notOne}, "min_keep": {binds: positive}, "adaptive_target": {binds: notNegative},
	"logit_bias": {binds: biasByText}, "response_format": {binds: objectSchema, paths: chatPaths, part: ".schema"},

	// What the answer tells beside its text.
	"n_probs": {binds: positive}, "embd_normalize": {binds: given, paths: []string{"/v1/embeddings"}},

	// How the prompt is made, and reasoning.
	"chat_template_kwargs":   {binds: wire.HasContent, paths: []string{"/v1/chat/completions", "/v1/responses", "/v1/messages"}},
	"add_generation_prompt":  {binds: isFalse, paths: chatPaths},
	"continue_final_message": {binds: wire.HasContent, paths: chatPaths},
	"reasoning_format":       {binds: unusualReasoning, paths: chatPaths},
	"thinking_budget_tokens": {binds: notNegative, paths: chatPaths},
	// A chat takes thinking_budget_tokens instead.
	"reasoning_budget_tokens": {binds: notNegative, paths: []string{"/v1/completions"}},

	// Without effect unless another field is set as well.
	"repeat_last_n": {}, "mirostat_tau": {}, "mirostat_eta": {}, "dynatemp_exponent": {}, "xtc_threshold": {}, "adaptive_decay": {},
	"dry_base": {}, "dry_allowed_length": {}, "dry_penalty_last_n": {}, "dry_sequence_breakers": {},
	"post_sampling_probs": {}, "grammar_lazy": {}, "grammar_triggers": {}, "grammar_type": {}, "preserved_tokens": {},

	// Without effect on the answer's text: caching, speed, and their figures.
	"cache_prompt": {}, "id_slot": {}, "n_cache_reuse": {}, "n_keep": {}, "n_discard": {}, "backend_sampling": {},
	"timings_per_token": {}, "return_progress": {}, "return_tokens": {}, "response_fields": {}, "verbose": {}, "sse_ping_interval": {},
	"speculative.n_max": {}, "speculative.n_min": {}, "speculative.p_min": {}, "speculative.types": {},
	"chat_format": {}, "parse_tool_calls": {}, "reasoning_in_content": {}, "reasoning_control": {},
}

// llamaField is a field that only llama-server knows.
type llamaField struct {
	binds func(v gjson.Result) bool // a call with this value, which is not null, depends on the field; nil = with none
	paths []string                  // that read the field; nil = all of samplerPaths
	part  string                    // of the value, where llama-server alone knows only that; for messages
}

// chatPaths are the paths that apply a chat template, but for /v1/messages, which
// reads nearly none of the fields; samplerPaths are those that read the others.
var (
	chatPaths    = []string{"/v1/chat/completions", "/v1/responses"}
	samplerPaths = append([]string{"/v1/completions"}, chatPaths...)
)

func given(gjson.Result) bool         { return true }
func isFalse(v gjson.Result) bool     { return v.Type == gjson.False }
func positive(v gjson.Result) bool    { return v.Type != gjson.Number || v.Num > 0 }
func notNegative(v gjson.Result) bool { return v.Type != gjson.Number || v.Num >= 0 }
func notOne(v gjson.Result) bool      { return v.Type != gjson.Number || v.Num != 1 }

// biasByText finds llama-server's own form of a bias, a list; OpenAI's is an object.
func biasByText(v gjson.Result) bool { return v.IsArray() && wire.HasContent(v) }

// objectSchema finds llama-server's own form of a schema, beside the type json_object;
// OpenAI's has the type json_schema.
func objectSchema(v gjson.Result) bool {
	return v.Get("type").Str == "json_object" && wire.HasContent(v.Get("schema"))
}

// unusualReasoning finds a format other than the usual one, reasoning in a field of its
// own. Values that llama-server rejects are other engines', such as Groq's.
func unusualReasoning(v gjson.Result) bool { return v.Str == "none" || v.Str == "deepseek-legacy" }

// noteLlamaField remembers a field that the call depends on.
func (b *body) noteLlamaField(name, value []byte) {
	field, ok := llamaFields[string(name)]
	if !ok || field.binds == nil {
		return
	}
	if v := gjson.ParseBytes(value); v.Type != gjson.Null && field.binds(v) {
		b.llamaFields = append(b.llamaFields, string(name))
	}
}
