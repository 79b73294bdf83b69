package resume

import "strings"

// MinOverlap is the length, in bytes, from which on a text that comes again counts as a
// repetition. A shorter one may come twice by chance.
const MinOverlap = 16

// OverlapFilter removes from a continuation what repeats the text that it continues:
// some backends start again, or repeat the last message. White space before either is
// ignored, since chat templates trim messages.
type OverlapFilter struct {
	before  string // the text so far, without its leading space
	space   string // the leading space of the continuation, held back
	matched int    // this many bytes of before have come again, and are held back
	done    bool   // the rest of the continuation is new
}

// NewOverlapFilter returns a filter for a continuation of the text before.
func NewOverlapFilter(before string) OverlapFilter {
	before = strings.TrimLeft(before, whiteSpace)
	return OverlapFilter{before: before, done: len(before) < MinOverlap}
}

const whiteSpace = " \t\r\n"

// Filter takes the next text of the continuation, and returns what is new. It holds back
// what may still be a repetition.
func (f *OverlapFilter) Filter(text string) string {
	if f.done {
		return text
	}
	if f.matched == 0 {
		trimmed := strings.TrimLeft(text, whiteSpace)
		f.space += text[:len(text)-len(trimmed)]
		text = trimmed
	}
	expected := f.before[f.matched:]
	if len(text) < len(expected) && strings.HasPrefix(expected, text) {
		f.matched += len(text)
		return ""
	}
	f.done = true
	if rest, ok := strings.CutPrefix(text, expected); ok {
		return rest
	}
	return f.space + f.before[:f.matched] + text
}

// Flush returns at the end of the continuation what was held back and is new after all.
// A repetition that reached its token limit is still one.
func (f *OverlapFilter) Flush(finish string) string {
	if f.done {
		return ""
	}
	f.done = true
	if isTokenLimit(finish) && f.matched >= MinOverlap {
		return ""
	}
	return f.space + f.before[:f.matched]
}

// isTokenLimit reports whether an answer with this finish reason was ended by its token limit:
// OpenAI's dialects write "length", Anthropic's messages "max_tokens".
func isTokenLimit(finish string) bool { return finish == "length" || finish == "max_tokens" }
