package aggregate

import (
	"cmp"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// ResultAtLimit completes a stream that was truncated after the end of its text, if all
// that is missing is known. Then no other backend has to be paid for the answer. That is
// the case if the usage was received, or if the answer has as many tokens as the call
// allows: then only the finish reason "length" and the figures of the last token are
// missing. If a model stops by itself, its number of tokens is not known.
func (a *formAggregator) ResultAtLimit() (whole []byte, ok bool) {
	if a.err != nil && !errors.Is(a.err, ErrTruncated) {
		return nil, false
	}
	if a.checkComplete() != nil && !a.finishAtLimit() {
		return nil, false
	}
	a.err, a.ended = nil, true
	whole, err := a.Result()
	return whole, err == nil
}

// finishAtLimit completes the only choice with the finish reason "length" and its usage, if
// the choice has certainly reached its limit.
func (a *formAggregator) finishAtLimit() bool {
	c := &a.choices[0]
	if len(a.choices) > 1 || !a.reachedLimit(c) {
		return false
	}
	usage, ok := usageOf(c.timings)
	if !ok {
		return false
	}
	had := c.finish
	if c.finish = `"length"`; c.missing(c.spent, a.form) != "" {
		c.finish = had
		return false
	}
	c.closed = true
	a.setOnce(&a.usage, usage)
	a.setOnce(&a.timings, c.timings)
	return true
}

// reachedLimit reports whether a choice of plain text has as many tokens as the call allows,
// and no text is missing.
func (a *formAggregator) reachedLimit(c *localChoice) bool {
	if c.closed || len(c.calls) > 0 || c.reasoning.Len() > 0 || c.finish != "" && c.finish != `"length"` {
		return false
	}
	// A stop string may end an answer within its last token, and text in which
	// llama-server searches for a tool call may be incomplete.
	object := gjson.ParseBytes(a.form.body.Raw)
	if resume.NotResumable(object) != "" || a.form.stops || wire.HasContent(object.Get("tools")) {
		return false
	}
	changes, left := resume.ReduceMaxTokens(object, c.spent)
	if len(changes) != 1 || left != 0 {
		return false
	}
	// llama-server withholds bytes that may become a character.
	return c.finish != "" || c.shown == c.spent && !strings.ContainsRune(unescape(c.text.String()), utf8.RuneError)
}

// usageOf returns the usage of an answer, as JSON, from the timings of its last token; false
// if the timings are incomplete.
func usageOf(timings string) (string, bool) {
	u := wire.Choices{}.Usage(wire.ChoiceSummary{Timings: gjson.Parse(cmp.Or(timings, "{}"))})
	cached := wire.Count(gjson.Get(timings, "cache_n"))
	if u.Prompt == nil || u.Completion == nil || cached == nil {
		return "", false
	}
	type details struct {
		Cached int64 `json:"cached_tokens"`
	}
	return string(wire.MustJSON(struct {
		Completion int64   `json:"completion_tokens"`
		Prompt     int64   `json:"prompt_tokens"`
		Total      int64   `json:"total_tokens"`
		Details    details `json:"prompt_tokens_details"`
	}{*u.Completion, *u.Prompt, *u.Completion + *u.Prompt, details{*cached}})), true
}
