package router

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
)

// usage is what a call used; nil where the backend did not say.
type usage struct {
	prompt     *int64 // tokens, cached ones included
	cached     *int64 // of the prompt's
	completion *int64 // tokens, reasoning included
	cost       *usd.Amount

	// Anthropic counts a prompt in three parts: these two, and what was cached. Of
	// its events each may tell some of them.
	fresh, written *int64
}

// merge takes over what a later event says.
func (u *usage) merge(later usage) {
	if later.prompt != nil {
		u.prompt = later.prompt
	}
	if later.cached != nil {
		u.cached = later.cached
	}
	if later.completion != nil {
		u.completion = later.completion
	}
	if later.cost != nil {
		u.cost = later.cost
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
func (u *usage) addParts() {
	if u.fresh == nil {
		return
	}
	sum := *u.fresh
	for _, part := range []*int64{u.cached, u.written} {
		if part != nil {
			sum += *part
		}
	}
	u.prompt = &sum
}

// tokens returns what prices are multiplied by; false where too little is known.
func (u usage) tokens() (price.Tokens, bool) {
	if u.prompt == nil || u.completion == nil {
		return price.Tokens{}, false
	}
	t := price.Tokens{Prompt: *u.prompt, Completion: *u.completion}
	if u.cached != nil {
		t.Cached = *u.cached
	}
	return t, true
}

// usageFields are where a dialect's "usage" has its figures, as gjson's paths.
type usageFields struct{ prompt, cached, completion string }

// The two ways in which OpenAI writes it. The cost is OpenRouter's: USD, in the
// same place in all dialects.
var (
	openAIUsage    = usageFields{"prompt_tokens", "prompt_tokens_details.cached_tokens", "completion_tokens"}
	responsesUsage = usageFields{"input_tokens", "input_tokens_details.cached_tokens", "output_tokens"}
)

// in reads the figures of a usage object.
func (f usageFields) in(object gjson.Result) usage {
	if !object.IsObject() {
		return usage{}
	}
	return usage{
		prompt: count(object.Get(f.prompt)), cached: count(object.Get(f.cached)), completion: count(object.Get(f.completion)),
		cost: amount(object.Get("cost")),
	}
}

// count reads a number of tokens.
func count(r gjson.Result) *int64 {
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

// usageSum adds up what the choices of a llama-server's stream have used, of which
// each tells its own. nil = the upstream tells of all of them at once.
type usageSum struct {
	completion int64 // tokens of the choices that have told theirs
	inChoices  bool  // they tell it beside their finish reason, as completions do
}

func (s *usageSum) add(e event, u usage) usage {
	if s == nil || u.completion == nil {
		return u
	}
	alone := mayHold(e.data, `"choices":[]`)
	s.inChoices = s.inChoices || !alone
	if !alone || !s.inChoices { // not twice
		s.completion += *u.completion
	}
	u.completion = new(s.completion)
	return u
}
