package accounting

import (
	"strings"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// What a call may cost has to be known before it is made, so that concurrent ones
// can't exceed a limit together. Tokens can't be counted without the upstream's own
// tokenizer; these constants give more than nearly every call uses.
const (
	// tokenBytes is how few bytes of text are taken for a token: English has four,
	// Chinese and code three, as UTF-8.
	tokenBytes = 3
	// An attachment, such as an image or a file, counts for a token in so many bytes
	// of its base64, and for so many tokens at least.
	attachmentTokenBytes = 16
	minAttachmentTokens  = 3000
	// An audio file counts for a token in so many bytes: models hear some 10 to 30
	// tokens a second, and a second of speech has at least 2 KB.
	audioTokenBytes = 256
	// minAttachment is the length from which on base64 is an attachment, in bytes.
	minAttachment = 1024
	// completionTokens is assumed for an answer that the call does not limit.
	completionTokens = 4096
)

// unknownModelPrice is assumed for a model whose price is unknown: as much as the
// most expensive that are in common use (2026-08).
var unknownModelPrice = func() price.Prices {
	prompt, _ := price.Parse("15e-6") // of constants
	completion, _ := price.Parse("75e-6")
	return price.Prices{Prompt: prompt, Completion: completion}
}()

// Estimate returns what an attempt may cost, in picodollars; 0 where it costs nothing
// or nothing limits what its key spends.
func (a *Accounting) Estimate(r *request.Request, at Attempt) usd.Amount {
	if !at.Bills(r) || !a.Budget.Limited(r.Key) {
		return 0
	}
	amount, _ := mostExpensive(a.PriceList(at.Backend), at.models(r), maxUsage(r))
	return amount
}

// Check returns the limit that an attempt would exceed; nil = it would exceed none.
func (a *Accounting) Check(r *request.Request, at Attempt) *budget.Exceeded {
	if !at.Bills(r) {
		return nil
	}
	return a.Budget.Check(a.Clock(), r.Key, at.Estimate)
}

// limitField returns the field by which a call limits the length of its answer, and
// another name of it. Upstreams ignore the names of other paths.
func limitField(path string) (name, other string) {
	switch path {
	case "/v1/chat/completions":
		return "max_tokens", "max_completion_tokens"
	case "/v1/responses":
		return "max_output_tokens", ""
	}
	return "max_tokens", ""
}

// maxUsage returns how many tokens a call may use.
func maxUsage(r *request.Request) price.Tokens {
	t := price.Tokens{Prompt: promptTokensOf(r)}
	if !generates(r.Path) {
		return t
	}
	limit, choices, prompts := int64(0), int64(1), int64(1)
	name, other := limitField(r.Path)
	wire.Scan(r.Body.Raw, func(m wire.Member) {
		value := r.Body.Raw[m.From:m.To]
		switch key := wire.Unquote(string(r.Body.Raw[m.KeyFrom:m.KeyTo])); {
		case key == name, key == other:
			limit = max(limit, limitIn(value))
		case strings.EqualFold(key, name), strings.EqualFold(key, other):
			limit = max(limit, limitIn(value), completionTokens) // some upstreams read it, others don't
		case strings.EqualFold(key, "n"), strings.EqualFold(key, "best_of"):
			choices = max(choices, wire.LenientNumber(value))
		case strings.EqualFold(key, "prompt"):
			prompts = max(prompts, wire.CountPrompts(value))
		}
	})
	if t.Completion = limit; limit == 0 {
		t.Completion = completionTokens
	}
	t.Completion *= choices
	if t.Completion > maxAsked/prompts {
		t.Completion = maxAsked
	} else {
		t.Completion *= prompts
	}
	return t
}

// maxAsked is more than any call gets.
const maxAsked = 1 << 40

// limitIn reads a limit. Only a number above 0 limits an answer: what upstreams may
// ignore, such as "100" or null, is no less than completionTokens.
func limitIn(value []byte) int64 {
	n := wire.LenientNumber(value)
	if n == 0 || value[0] == '"' {
		n = max(n, completionTokens)
	}
	return n
}

// generates reports whether an answer of an endpoint has tokens of its own. A path that is
// not known here counts as one that has: too much is reserved rather than too little.
func generates(path string) bool {
	switch path {
	case "/v1/embeddings", "/v1/rerank", "/v1/messages/count_tokens", "/v1/audio/transcriptions", "/v1/audio/translations":
		return false
	}
	return true
}
