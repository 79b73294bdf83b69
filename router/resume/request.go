package resume

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// NotResumable returns why the answer to a request could not be continued by another
// backend; "" = it could.
func NotResumable(body gjson.Result) string {
	seen, duplicate := map[string]bool{}, false
	body.ForEach(func(key, _ gjson.Result) bool {
		duplicate = duplicate || seen[key.Str]
		seen[key.Str] = true
		return !duplicate
	})
	if duplicate { // backends differ in which of the two they read
		return "it has a field twice"
	}
	for field, reason := range map[string]string{
		"logprobs": "logprobs", "top_logprobs": "logprobs", "grammar": "a grammar", "json_schema": "a JSON schema",
		"n_probs": "probabilities", "echo": "an echo", "suffix": "a suffix", "best_of": "the best of several",
	} {
		if wire.HasContent(body.Get(field)) {
			return "it asks for " + reason
		}
	}
	if n := body.Get("n"); n.Exists() && n.Num != 1 {
		return "it asks for several choices"
	}
	for _, field := range tokenLimits {
		limit := body.Get(field)
		if _, err := strconv.ParseInt(limit.Raw, 10, 64); err != nil && limit.Type == gjson.Number {
			// Backends differ in how they read a fraction or 1e400, so what remains of
			// it is unknown.
			return "its limit is not a whole number"
		}
	}
	if format := body.Get("response_format.type").Str; format != "" && format != "text" {
		return "it asks for " + wire.Shorten(format)
	}
	return ""
}

// tokenLimits are the fields that limit the length of an answer.
var tokenLimits = []string{"max_tokens", "max_completion_tokens", "n_predict"}

// ReduceMaxTokens returns the changes that subtract the tokens of a partial answer from
// the limits of a request. left is the smallest limit that remains; -1 = no limit.
func ReduceMaxTokens(body gjson.Result, spent int64) (changes []wire.Edit, left int64) {
	left = -1
	for _, field := range tokenLimits {
		limit := body.Get(field)
		if limit.Type != gjson.Number || limit.Num < 0 {
			continue
		}
		rest := max(limit.Int()-spent, 0)
		if left < 0 || rest < left {
			left = rest
		}
		changes = append(changes, wire.Edit{From: limit.Index, To: limit.Index + len(limit.Raw), Text: strconv.FormatInt(rest, 10)})
	}
	return changes, left
}
