package llamacpp

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
)

// fields are the fields of a request that only llama-server knows, as of build 11669.
// Paths nil = samplerPaths.
var fields = withPaths(models.EngineFields{
	// Length and form of the answer.
	"n_predict": {Needed: zeroOrMore}, "t_max_predict_ms": {Needed: aboveZero}, "n_indent": {Needed: aboveZero},
	"n_cmpl": {Needed: notOne}, "ignore_eos": {Needed: hasContent},
	"grammar": {Needed: hasContent}, "json_schema": {Needed: always}, "lora": {Needed: hasContent},

	// Sampling.
	"samplers": {Needed: hasContent}, "mirostat": {Needed: aboveZero}, "typical_p": {Needed: notOne}, "top_n_sigma": {Needed: aboveZero},
	"dynatemp_range": {Needed: aboveZero}, "xtc_probability": {Needed: aboveZero}, "dry_multiplier": {Needed: aboveZero},
	"repeat_penalty": {Needed: notOne}, "min_keep": {Needed: aboveZero}, "adaptive_target": {Needed: zeroOrMore},
	"logit_bias": {Needed: biasByText}, "response_format": {Needed: objectSchema, Paths: chatPaths, Part: ".schema"},

	// What the answer contains beside its text.
	"n_probs": {Needed: aboveZero}, "embd_normalize": {Needed: always, Paths: []string{"/v1/embeddings"}},

	// Prompt template and reasoning.
	"chat_template_kwargs":   {Needed: hasContent, Paths: []string{"/v1/chat/completions", "/v1/responses", "/v1/messages"}},
	"add_generation_prompt":  {Needed: isFalse, Paths: chatPaths},
	"continue_final_message": {Needed: hasContent, Paths: chatPaths},
	"reasoning_format":       {Needed: unusualReasoning, Paths: chatPaths},
	"thinking_budget_tokens": {Needed: zeroOrMore, Paths: chatPaths},
	// A chat takes thinking_budget_tokens instead.
	"reasoning_budget_tokens": {Needed: zeroOrMore, Paths: []string{"/v1/completions"}},

	// No effect unless another field is set as well.
	"repeat_last_n": {}, "mirostat_tau": {}, "mirostat_eta": {}, "dynatemp_exponent": {}, "xtc_threshold": {}, "adaptive_decay": {},
	"dry_base": {}, "dry_allowed_length": {}, "dry_penalty_last_n": {}, "dry_sequence_breakers": {},
	"post_sampling_probs": {}, "grammar_lazy": {}, "grammar_triggers": {}, "grammar_type": {}, "preserved_tokens": {},

	// No effect on the answer's text: caching, speed, and their figures.
	"cache_prompt": {}, "id_slot": {}, "n_cache_reuse": {}, "n_keep": {}, "n_discard": {}, "backend_sampling": {},
	"timings_per_token": {}, "return_progress": {}, "return_tokens": {}, "response_fields": {}, "verbose": {}, "sse_ping_interval": {},
	"speculative.n_max": {}, "speculative.n_min": {}, "speculative.p_min": {}, "speculative.types": {},
	"chat_format": {}, "parse_tool_calls": {}, "reasoning_in_content": {}, "reasoning_control": {},
})

// chatPaths are the paths that apply a chat template, except /v1/messages, which reads
// hardly any of the fields. samplerPaths are the paths that sample tokens.
var (
	chatPaths    = []string{"/v1/chat/completions", "/v1/responses"}
	samplerPaths = append([]string{"/v1/completions"}, chatPaths...)
)

// withPaths fills in the paths of fields that have none.
func withPaths(fields models.EngineFields) models.EngineFields {
	for name, field := range fields {
		if field.Paths == nil {
			field.Paths = samplerPaths
			fields[name] = field
		}
	}
	return fields
}

// hasContent reports whether a value is anything but null, false or empty.
func hasContent(v gjson.Result) bool {
	if v.Type == gjson.JSON {
		some := false
		v.ForEach(func(_, _ gjson.Result) bool { some = true; return false })
		return some
	}
	return v.Type != gjson.Null && v.Type != gjson.False && (v.Type != gjson.String || v.Str != "")
}

func always(gjson.Result) bool       { return true }
func isFalse(v gjson.Result) bool    { return v.Type == gjson.False }
func aboveZero(v gjson.Result) bool  { return v.Type != gjson.Number || v.Num > 0 }
func zeroOrMore(v gjson.Result) bool { return v.Type != gjson.Number || v.Num >= 0 }
func notOne(v gjson.Result) bool     { return v.Type != gjson.Number || v.Num != 1 }

// biasByText detects llama-server's form of a bias, a list. OpenAI's is an object.
func biasByText(v gjson.Result) bool { return v.IsArray() && hasContent(v) }

// objectSchema detects llama-server's form of a schema, with the type json_object.
// OpenAI's has the type json_schema.
func objectSchema(v gjson.Result) bool {
	return v.Get("type").Str == "json_object" && hasContent(v.Get("schema"))
}

// unusualReasoning detects a format other than the usual one, which has reasoning in its
// own field. Values that llama-server rejects belong to other engines, such as Groq's.
func unusualReasoning(v gjson.Result) bool { return v.Str == "none" || v.Str == "deepseek-legacy" }
