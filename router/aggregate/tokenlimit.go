package aggregate

import (
	"cmp"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// ResultAtLimit ends a stream that broke off behind the last of its text, where all that is
// missing is known, so that nobody is paid for the whole. It is one whose usage has
// come, or one that has as many tokens as the call allows: the rest of that is the
// finish reason "length", and the figures of its last token. Where a model ended by
// itself, nobody knows for how many tokens that counts.
func (a *formAggregator) ResultAtLimit() (whole []byte, ok bool) {
	if a.err != nil && !errors.Is(a.err, ErrTruncated) {
		return nil, false
	}
	if a.complete() != nil && !a.endsAtLimit() {
		return nil, false
	}
	a.err, a.ended = nil, true
	whole, err := a.Result()
	return whole, err == nil
}

// endsAtLimit takes the only choice to be at its end, if it is for certain.
func (a *formAggregator) endsAtLimit() bool {
	c := &a.choices[0]
	if len(a.choices) > 1 || c.closed || len(c.calls) > 0 || c.reasoning.Len() > 0 || c.finish != "" && c.finish != `"length"` {
		return false
	}
	// A stop string may end an answer within its last token, and what llama-server
	// looks for a tool call in may lack some text.
	object := gjson.ParseBytes(a.streamed.body.Raw)
	if resume.NotResumable(object) != "" || a.streamed.stops || wire.HasContent(object.Get("tools")) {
		return false
	}
	changes, left := resume.ReduceMaxTokens(object, c.spent)
	if len(changes) != 1 || left != 0 {
		return false
	}
	// What is no character is kept back until it is seen that it becomes none.
	if c.finish == "" && (c.shown != c.spent || strings.ContainsRune(unescape(c.text.String()), utf8.RuneError)) {
		return false
	}
	u := wire.Choices{}.Usage(wire.ChoiceSummary{Timings: gjson.Parse(cmp.Or(c.timings, "{}"))})
	cached := wire.Count(gjson.Get(c.timings, "cache_n"))
	if u.Prompt == nil || u.Completion == nil || cached == nil {
		return false
	}
	had := c.finish
	if c.finish = `"length"`; c.missing(c.spent, a.streamed) != "" {
		c.finish = had
		return false
	}
	type details struct {
		Cached int64 `json:"cached_tokens"`
	}
	all, err := json.Marshal(struct {
		Completion int64   `json:"completion_tokens"`
		Prompt     int64   `json:"prompt_tokens"`
		Total      int64   `json:"total_tokens"`
		Details    details `json:"prompt_tokens_details"`
	}{*u.Completion, *u.Prompt, *u.Completion + *u.Prompt, details{*cached}})
	if err != nil {
		return false
	}
	c.closed = true
	a.keep(&a.usage, string(all))
	a.keep(&a.timings, c.timings)
	return true
}
