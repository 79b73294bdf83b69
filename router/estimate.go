package router

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
)

// What a call may cost has to be known before it is made, so that concurrent ones
// can't pass a limit together. Tokens can't be counted without the upstream's own
// tokenizer; these take more than nearly every call has.
const (
	// bytesAToken is how few bytes of a body are taken for a token: English has
	// four, Chinese and code three, as UTF-8.
	bytesAToken = 3
	// attachmentTokens is what an image or a file counts for, whatever its size.
	attachmentTokens = 3000
	// attachmentFrom is from which length on base64 is one, in bytes.
	attachmentFrom = 1024
	// completionTokens is what an answer is taken for that the call does not limit.
	completionTokens = 4096
)

// dearest is what a model is taken to cost whose price nobody knows: as much as
// the dearest that are in common use (2026-08).
var dearest = func() price.Prices {
	prompt, _ := price.Parse("15e-6") // of constants
	completion, _ := price.Parse("75e-6")
	return price.Prices{Prompt: prompt, Completion: completion}
}()

// estimate returns what a call may cost at a backend, 0 where nothing limits it.
func (c *call) estimate(s step) usd.Amount {
	if !c.pays(s) || !c.books.Budget.Limited(c.key) {
		return 0
	}
	prices, _, known := c.books.book(s.backend.name()).Lookup(s.model)
	if !known {
		prices = dearest
	}
	cost, ok := prices.Cost(c.mayUse())
	if !ok {
		return usd.Most
	}
	return c.books.excess.apply(served{s.backend.name(), s.model}, cost)
}

// pays says whether a step of a call's plan costs money. To have tokens counted is
// free with those who take money for all else (Anthropic's API reference, "Token
// counting").
func (c *call) pays(s step) bool {
	return s.backend.paid() && c.path != "/v1/messages/count_tokens"
}

// mayUse returns how many tokens a call may use.
func (c *call) mayUse() price.Tokens {
	t := price.Tokens{Prompt: promptTokens(c.body.raw)}
	if _, ok := c.dialect.(audio); ok {
		t.Prompt = attachmentTokens
	}
	if !generates(c.path) {
		return t
	}
	limit, choices := int64(0), int64(1)
	prompts := int64(1)
	scan(c.body.raw, func(m member) {
		value := c.body.raw[m.from:m.to]
		switch unquote(string(c.body.raw[m.keyFrom:m.keyTo])) {
		case "max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict":
			limit = max(limit, atMost(value))
		case "n", "best_of":
			choices = max(choices, atMost(value))
		case "prompt":
			prompts = max(prompts, promptsIn(value))
		}
	})
	if t.Completion = completionTokens; limit > 0 {
		t.Completion = limit
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

// atMost reads a number that a call limits itself by, in whatever form a backend may
// take for one: 100000, 1e5, 100000.0 or "100000". 0 = it is none.
func atMost(value []byte) int64 {
	n, err := strconv.ParseFloat(strings.Trim(string(value), `"`), 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && n > 0, n > math.MaxInt32:
		return math.MaxInt32 // two of them multiplied are an int64
	case err != nil, !(n > 0): // NaN, too
		return 0
	}
	return int64(math.Ceil(n))
}

// promptsIn returns how many prompts a completion has, of which each gets an answer
// of its own: a list of texts or of lists of tokens is several.
func promptsIn(value []byte) (n int64) {
	if value[0] != '[' {
		return 1
	}
	gjson.ParseBytes(value).ForEach(func(_, prompt gjson.Result) bool {
		if prompt.Type != gjson.Number {
			n++
		}
		return true
	})
	return max(n, 1)
}

// generates says whether an answer of an endpoint has tokens of its own.
func generates(path string) bool {
	switch path {
	case "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages":
		return true
	}
	return false
}

// promptTokens returns about how many tokens a body has at most. An attachment is
// what stands in base64 behind one of attachmentMarks, up to its closing quote.
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
		text += at - from
		size := bytes.IndexByte(raw[at:], '"')
		if size < 0 {
			size = len(raw) - at
		}
		if size >= attachmentFrom {
			tokens += attachmentTokens
		} else {
			text += size
		}
		from = at + size
	}
	return tokens + int64(text/bytesAToken) + 1
}

// attachmentMarks are what stands before base64: of a data URL, and of OpenAI's and
// Anthropic's objects.
var attachmentMarks = [...][]byte{[]byte(";base64,"), []byte(`"data":"`), []byte(`"data": "`)}
