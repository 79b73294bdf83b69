package wire

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
)

// Usage is what a call used; nil where the backend did not say.
type Usage struct {
	Prompt     *int64 // tokens, cached ones included
	Cached     *int64 // of the prompt's
	Completion *int64 // tokens, reasoning included
	Cost       *usd.Amount

	// Anthropic counts a prompt in three parts: these two, and what was cached. Of
	// its events each may tell some of them.
	fresh, written *int64
}

// Merge takes over what a later event says.
func (u *Usage) Merge(later Usage) {
	if later.Prompt != nil {
		u.Prompt = later.Prompt
	}
	if later.Cached != nil {
		u.Cached = later.Cached
	}
	if later.Completion != nil {
		u.Completion = later.Completion
	}
	if later.Cost != nil {
		u.Cost = later.Cost
	}
	if later.fresh != nil {
		u.fresh = later.fresh
	}
	if later.written != nil {
		u.written = later.written
	}
	u.addParts()
}

// addParts makes the prompt of its parts, where it is told in parts.
func (u *Usage) addParts() {
	if u.fresh == nil {
		return
	}
	sum := *u.fresh
	for _, part := range []*int64{u.Cached, u.written} {
		if part != nil {
			sum += *part
		}
	}
	u.Prompt = &sum
}

// Tokens returns what prices are multiplied by; false where too little is known.
func (u Usage) Tokens() (price.Tokens, bool) {
	if u.Prompt == nil || u.Completion == nil {
		return price.Tokens{}, false
	}
	t := price.Tokens{Prompt: *u.Prompt, Completion: *u.Completion}
	if u.Cached != nil {
		t.Cached = *u.Cached
	}
	return t, true
}

// usageFields are where a dialect's "usage" has its figures, as gjson's paths.
type usageFields struct{ prompt, cached, completion string }

// The two ways in which OpenAI writes it. The cost is OpenRouter's: USD, in the
// same place in all dialects.
var (
	OpenAIUsage    = usageFields{"prompt_tokens", "prompt_tokens_details.cached_tokens", "completion_tokens"}
	responsesUsage = usageFields{"input_tokens", "input_tokens_details.cached_tokens", "output_tokens"}
)

// In reads the figures of a usage object.
func (f usageFields) In(object gjson.Result) Usage {
	if !object.IsObject() {
		return Usage{}
	}
	return Usage{
		Prompt: Count(object.Get(f.prompt)), Cached: Count(object.Get(f.cached)), Completion: Count(object.Get(f.completion)),
		Cost: amount(object.Get("cost")),
	}
}

// Count reads a number of tokens.
func Count(r gjson.Result) *int64 {
	if r.Type != gjson.Number {
		return nil
	}
	n := r.Int()
	return &n
}

// amount reads USD by their digits: a float would have lost some.
func amount(r gjson.Result) *usd.Amount {
	if r.Type != gjson.Number {
		return nil
	}
	a, err := usd.Parse(r.Raw)
	if err != nil {
		return nil
	}
	return &a
}

// UsageSum adds up what the choices of a llama-server's stream have used, of which
// each tells its own. nil = the upstream tells of all of them at once.
type UsageSum struct {
	completion int64 // tokens of the choices that have told theirs
	inChoices  bool  // they tell it beside their finish reason, as completions do
}

func (s *UsageSum) Add(e Event, u Usage) Usage {
	if s == nil || u.Completion == nil {
		return u
	}
	alone := MightContain(e.Data, `"choices":[]`)
	s.inChoices = s.inChoices || !alone
	if !alone || !s.inChoices { // not twice
		s.completion += *u.Completion
	}
	u.Completion = new(s.completion)
	return u
}
