package accounting

import (
	"strings"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// The cost of a call is estimated before it is made, so that concurrent calls cannot exceed
// a limit together. Tokens cannot be counted without the upstream's own tokenizer; these
// constants give more than nearly every call uses.
const (
	// tokenBytes is how many bytes of text are counted as a token: English has four bytes
	// per token, Chinese and code three, in UTF-8.
	tokenBytes = 3
	// attachmentTokenBytes is how many bytes of base64 of an attachment, such as an image
	// or a file, are counted as a token; each attachment counts at least
	// minAttachmentTokens.
	attachmentTokenBytes = 16
	minAttachmentTokens  = 3000
	// audioTokenBytes is how many bytes of an audio file are counted as a token: models
	// use some 10 to 30 tokens for a second of speech, which has at least 2 KB.
	audioTokenBytes = 256
	// minAttachment is the length from which base64 is counted as an attachment, in
	// bytes.
	minAttachment = 1024
	// imageTokens is more than an image has: OpenAI's have up to 6,240.
	imageTokens = 8192
	// speechTokens is how many tokens the speech of a byte of text has: OpenAI's models
	// speak some 15 characters a second, in some 20 tokens.
	speechTokens = 2
	// completionTokens is assumed for an answer whose length the call does not limit.
	completionTokens = 4096
)

// unknownModelPrice is assumed for a model of unknown price: that of the most expensive
// models in common use (2026-08).
var unknownModelPrice = func() price.Prices {
	prompt, _ := price.Parse("15e-6") // a constant: it cannot fail
	completion, _ := price.Parse("75e-6")
	return price.Prices{Prompt: prompt, Completion: completion}
}()

// Estimate returns what an attempt may cost, in picodollars; 0 = it costs nothing, or no
// budget limits its key.
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
	return a.Budget.Check(a.timeOf(r), r.Key, at.Estimate)
}

// limitField returns the field that limits the length of an answer, and its alternative
// name. Upstreams ignore the names of other paths.
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
	limit, choices, prompts := int64(0), max(r.Body.Count, 1), int64(1)
	name, other := limitField(r.Path)
	wire.Scan(r.Body.Raw, func(m wire.Member) {
		value := r.Body.Raw[m.From:m.To]
		switch key := wire.Unquote(string(r.Body.Raw[m.KeyFrom:m.KeyTo])); {
		case key == name, key == other:
			limit = max(limit, parseLimit(value))
		case strings.EqualFold(key, name), strings.EqualFold(key, other):
			limit = max(limit, parseLimit(value), completionTokens) // some upstreams accept it, others do not
		case strings.EqualFold(key, "n"), strings.EqualFold(key, "best_of"):
			choices = max(choices, wire.LenientNumber(value))
		case strings.EqualFold(key, "prompt"):
			prompts = max(prompts, wire.CountPrompts(value))
		}
	})
	if t.Completion = limit; limit == 0 {
		t.Completion = unlimitedTokens(r)
	}
	t.Completion *= min(choices, max(maxTokens/max(t.Completion, 1), 1))
	if t.Completion > maxTokens/prompts {
		t.Completion = maxTokens
	} else {
		t.Completion *= prompts
	}
	return t
}

// unlimitedTokens returns how many tokens an answer may have whose length the call does not
// limit.
func unlimitedTokens(r *request.Request) int64 {
	switch r.Path {
	case "/v1/images/generations", "/v1/images/edits":
		return imageTokens
	case "/v1/audio/speech":
		return int64(len(r.Body.Raw)) * speechTokens
	}
	return completionTokens
}

// maxTokens is more than any call can use.
const maxTokens = 1 << 40

// parseLimit parses a limit. Only a number above 0 limits an answer. A value that upstreams
// may ignore, such as "100" or null, counts as at least completionTokens.
func parseLimit(value []byte) int64 {
	n := wire.LenientNumber(value)
	if n == 0 || value[0] == '"' {
		n = max(n, completionTokens)
	}
	return n
}

// generates reports whether an endpoint generates tokens. An unknown path counts as one that
// does, so that too much is reserved rather than too little.
func generates(path string) bool {
	switch path {
	case "/v1/embeddings", "/v1/rerank", "/v2/rerank", "/v1/moderations", "/v1/audio/transcriptions", "/v1/audio/translations":
		return false
	}
	return !CountsTokens(path)
}
