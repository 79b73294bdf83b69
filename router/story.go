package router

import (
	"strings"

	"github.com/tidwall/gjson"
)

// story is what has to be known of a stream so that somebody else can go on with
// it: its text so far, and whether there is more to it than text.
type story struct {
	dialect resumable
	text    strings.Builder
	tokens  int64  // events with text, of which llama-server makes one for each
	head    head   // of its events
	finish  string // the finish reason, once it came
	told    bool   // its usage was sent
	spoiled string // why nobody else can go on; "" = somebody can
}

// head is what all events of a stream have in common.
type head struct {
	ID      string
	Created int64
	Model   string
}

// maxStory is how much text is kept for somebody else to go on with, in bytes.
const maxStory = 4 << 20

// hear takes an event of the stream into account.
func (s *story) hear(data []byte) {
	if s.spoiled != "" || len(data) == 0 || string(data) == "[DONE]" {
		return
	}
	chunk := gjson.ParseBytes(data)
	if s.head.ID == "" {
		s.head = head{ID: chunk.Get("id").Str, Created: chunk.Get("created").Int(), Model: chunk.Get("model").Str}
	}
	choice := chunk.Get("choices.0")
	if !choice.Exists() {
		s.told = s.told || hasContent(chunk.Get("usage"))
		return
	}
	text, spoiled := s.dialect.text(choice)
	if choice.Get("index").Int() != 0 || chunk.Get("choices.#").Int() > 1 {
		spoiled = "it has several choices"
	}
	if text != "" {
		s.text.WriteString(text)
		s.tokens++
	}
	if reason := choice.Get("finish_reason").Str; reason != "" {
		s.finish = reason
	}
	if s.text.Len() > maxStory {
		spoiled = "it is too long"
	}
	s.spoiled = spoiled
}

// echoFrom is from which length on a text that comes again is a repetition, in
// bytes, and not a list of ones.
const echoFrom = 32

// echo takes out of a continuation what repeats the text that it continues: there
// are backends that begin anew, or say the last message once more.
type echo struct {
	before string // the text so far
	held   int    // so much of it has come again, and is held back
	over   bool
}

// pass returns what of some more text is new. What may still be repetition is
// held back.
func (e *echo) pass(text string) string {
	if len(e.before) < echoFrom { // as much is said twice by chance
		e.over = true
	}
	if e.over {
		return text
	}
	due := e.before[e.held:]
	if len(text) < len(due) && strings.HasPrefix(due, text) {
		e.held += len(text)
		return ""
	}
	e.over = true
	if more, ok := strings.CutPrefix(text, due); ok {
		return more
	}
	return e.before[:e.held] + text
}

// rest returns what was held back and is no repetition after all.
func (e *echo) rest() string {
	if e.over {
		return ""
	}
	e.over = true
	return e.before[:e.held]
}
