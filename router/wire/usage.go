package wire

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/usd"
)

// Usage is what a call used. A figure that the backend did not report is nil.
type Usage struct {
	Prompt     *int64 // tokens, cached ones included
	Cached     *int64 // of the prompt's
	Completion *int64 // tokens, reasoning included
	Cost       *usd.Amount

	// Anthropic reports the prompt in three parts: these two, and cached tokens. Each
	// event may have some of them.
	uncached, cacheWritten *int64
}

// Merge replaces the figures that a later event has.
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
	if later.uncached != nil {
		u.uncached = later.uncached
	}
	if later.cacheWritten != nil {
		u.cacheWritten = later.cacheWritten
	}
	u.addParts()
}

// addParts sums up the parts of the prompt, if it is reported in parts.
func (u *Usage) addParts() {
	if u.uncached == nil {
		return
	}
	sum := *u.uncached
	for _, part := range []*int64{u.Cached, u.cacheWritten} {
		if part != nil {
			sum += *part
		}
	}
	u.Prompt = &sum
}

// Tokens returns the figures that prices are multiplied by; false if one is unknown.
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

// usageFields are the gjson paths of the figures in a "usage".
type usageFields struct{ prompt, cached, completion string }

// OpenAI has two forms of it. The cost is OpenRouter's: in USD, in the same field in all
// dialects.
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
		Cost: costIn(object.Get("cost")),
	}
}

// AnyUsage reads the figures of a usage object in either form.
func AnyUsage(object gjson.Result) Usage {
	u := OpenAIUsage.In(object)
	u.Merge(responsesUsage.In(object))
	return u
}

// Count reads a number of tokens.
func Count(r gjson.Result) *int64 {
	if r.Type != gjson.Number {
		return nil
	}
	n := r.Int()
	return &n
}

// costIn reads USD from the digits: a float64 would lose some.
func costIn(r gjson.Result) *usd.Amount {
	if r.Type != gjson.Number {
		return nil
	}
	a, err := usd.Parse(r.Raw)
	if err != nil {
		return nil
	}
	return &a
}

// UsageSum sums up the usage of the choices in a llama-server's stream: each choice
// reports its own. nil = the backend reports the usage of all choices at once.
type UsageSum struct {
	completion int64 // tokens of the choices that have reported
	inChoices  bool  // they report beside their finish reason, as completions do
}

// Add adds the usage of an event, and returns the sum.
func (s *UsageSum) Add(e Event, u Usage) Usage {
	if s == nil || u.Completion == nil {
		return u
	}
	alone := MightContain(e.Data, `"choices":[]`)
	if !alone && !mightFinish(e.Data) && !MightContain(e.Data, `"stop":true`) { // of a choice so far: the client asked for timings_per_token
		u.Completion = new(s.completion + *u.Completion)
		return u
	}
	s.inChoices = s.inChoices || !alone
	if !alone || !s.inChoices { // else it is in the sum already
		s.completion += *u.Completion
	}
	u.Completion = new(s.completion)
	return u
}
