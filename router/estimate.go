package router

import (
	"bytes"
	"strings"

	"github.com/llmsup/llmsup/router/price"
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

// estimate returns what a call may cost at a backend, 0 where nothing limits it.
func (c *call) estimate(s step) usd.Amount {
	if !c.pays(s) || !c.books.Budget.Limited(c.key) {
		return 0
	}
	amount, _ := mostExpensive(c.books.book(s.backend.name()), c.modelsAt(s), c.maxUsage())
	return amount
}

// pays says whether a step of a call's plan costs money. To have tokens counted is
// free with those who take money for all else (Anthropic's API reference, "Token
// counting").
func (c *call) pays(s step) bool {
	return s.backend.paid() && c.path != "/v1/messages/count_tokens"
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
func (c *call) maxUsage() price.Tokens {
	t := price.Tokens{Prompt: c.promptTokens()}
	if !generates(c.path) {
		return t
	}
	limit, choices, prompts := int64(0), int64(1), int64(1)
	name, other := limitField(c.path)
	wire.Scan(c.body.Raw, func(m wire.Member) {
		value := c.body.Raw[m.From:m.To]
		switch key := wire.Unquote(string(c.body.Raw[m.KeyFrom:m.KeyTo])); {
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

// generates says whether an answer of an endpoint has tokens of its own.
func generates(path string) bool {
	switch path {
	case "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages":
		return true
	}
	return false
}

// promptTokens returns about how many tokens a call's prompt has at most.
func (c *call) promptTokens() int64 {
	if _, ok := c.dialect.(wire.Audio); ok {
		return max(minAttachmentTokens, int64(len(c.body.Raw))/audioTokenBytes)
	}
	return promptTokens(c.body.Raw)
}

// isBase64 says whether a value, which may begin as a data URL, is base64 of either
// alphabet. PHP writes a slash with a backslash.
func isBase64(value []byte) bool {
	if _, data, found := bytes.Cut(value[:min(len(value), maxDataURLHead)], []byte(";base64,")); found {
		value = value[min(len(value), maxDataURLHead)-len(data):]
	}
	for _, c := range value {
		if !base64Bytes[c] {
			return false
		}
	}
	return true
}

var base64Bytes = func() (is [256]bool) {
	for _, c := range []byte(`ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\`) {
		is[c] = true
	}
	return is
}()

// attachmentMarks stand before an attachment: at the beginning of a data URL, and
// of the base64 in OpenAI's and Anthropic's objects.
var attachmentMarks = [...][]byte{[]byte(`"data:`), []byte(`"data":"`), []byte(`"data": "`)}

// maxDataURLHead is how long the part of a data URL may be that is before its
// base64, in bytes.
const maxDataURLHead = 256

// promptTokens counts the tokens of a body. An attachment goes up to its closing
// quote.
func promptTokens(raw []byte) (tokens int64) {
	var next [len(attachmentMarks)]int // where each mark stands next; each is looked for once on the way
	for i := range next {
		next[i] = -1
	}
	text := 0
	for from := 0; from < len(raw); {
		at := len(raw)
		for i, mark := range attachmentMarks {
			if next[i] < from {
				next[i] = len(raw)
				if found := bytes.Index(raw[from:], mark); found >= 0 {
					next[i] = from + found
				}
			}
			at = min(at, next[i]+len(mark))
		}
		at = min(at, len(raw))
		text += at - from
		size := bytes.IndexByte(raw[at:], '"')
		if size < 0 {
			size = len(raw) - at
		}
		value := raw[at : at+size]
		if bytes.HasSuffix(raw[:at], attachmentMarks[0]) && !bytes.Contains(value[:min(size, maxDataURLHead)], []byte(";base64,")) {
			value = nil // text that begins as a data URL
		}
		if len(value) >= minAttachment && !isBase64(value) {
			value = nil
		}
		if len(value) >= minAttachment {
			tokens += max(minAttachmentTokens, int64(size)/attachmentTokenBytes)
		} else {
			text += size
		}
		from = at + size
	}
	return tokens + int64(text/tokenBytes) + 1
}
