package request

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// LlamaFields are the fields of a request that only llama-server knows: neither
// OpenAI's nor OpenRouter's reference has them, or not with such a value. An upstream
// ignores them, so a call that depends on one never moves there. A call depends on a field unless its value is null or switches the
// field off. Seen with build 11669.
var LlamaFields = map[string]llamaField{
	// How long the answer may be, and what it may be.
	"n_predict": {Binds: notNegative}, "t_max_predict_ms": {Binds: positive}, "n_indent": {Binds: positive},
	"n_cmpl": {Binds: notOne}, "ignore_eos": {Binds: wire.HasContent},
	"grammar": {Binds: wire.HasContent}, "json_schema": {Binds: given}, "lora": {Binds: wire.HasContent},

	// How tokens are chosen.
	"samplers": {Binds: wire.HasContent}, "mirostat": {Binds: positive}, "typical_p": {Binds: notOne}, "top_n_sigma": {Binds: positive},
	"dynatemp_range": {Binds: positive}, "xtc_probability": {Binds: positive}, "dry_multiplier": {Binds: positive},
	"repeat_penalty": {Binds: notOne}, "min_keep": {Binds: positive}, "adaptive_target": {Binds: notNegative},
	"logit_bias": {Binds: biasByText}, "response_format": {Binds: objectSchema, Paths: chatPaths, Part: ".schema"},

	// What the answer tells beside its text.
	"n_probs": {Binds: positive}, "embd_normalize": {Binds: given, Paths: []string{"/v1/embeddings"}},

	// How the prompt is made, and reasoning.
	"chat_template_kwargs":   {Binds: wire.HasContent, Paths: []string{"/v1/chat/completions", "/v1/responses", "/v1/messages"}},
	"add_generation_prompt":  {Binds: isFalse, Paths: chatPaths},
	"continue_final_message": {Binds: wire.HasContent, Paths: chatPaths},
	"reasoning_format":       {Binds: unusualReasoning, Paths: chatPaths},
	"thinking_budget_tokens": {Binds: notNegative, Paths: chatPaths},
	// A chat takes thinking_budget_tokens instead.
	"reasoning_budget_tokens": {Binds: notNegative, Paths: []string{"/v1/completions"}},

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
	Binds func(v gjson.Result) bool // a call with this value, which is not null, depends on the field; nil = with none
	Paths []string                  // that read the field; nil = all of SamplerPaths
	Part  string                    // of the value, where llama-server alone knows only that; for messages
}

// chatPaths are the paths that apply a chat template, but for /v1/messages, which
// reads nearly none of the fields; SamplerPaths are those that read the others.
var (
	chatPaths    = []string{"/v1/chat/completions", "/v1/responses"}
	SamplerPaths = append([]string{"/v1/completions"}, chatPaths...)
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
func (b *Body) noteLlamaField(name, value []byte) {
	field, ok := LlamaFields[string(name)]
	if !ok || field.Binds == nil {
		return
	}
	if v := gjson.ParseBytes(value); v.Type != gjson.Null && field.Binds(v) {
		b.LlamaFields = append(b.LlamaFields, string(name))
	}
}
