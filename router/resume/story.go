package resume

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Transcript is what has to be known of a stream so that another backend can continue
// it: its text so far, and whether there is more to it than text.
type Transcript struct {
	Dialect      resumable
	Text         strings.Builder
	textContext  [2][]byte   // what stands before and behind the text in its last event
	Tokens       int64       // events with text, of which llama-server makes one for each
	Header       EventHeader // of its events
	Finish       string      // the finish reason, once it came
	TextEnded    bool        // nothing can be added to the text any more
	usageSent    bool        // its usage was sent
	NotResumable string      // why no other backend can continue it; "" = one can
}

// EventHeader is what all events of a stream have in common.
type EventHeader struct {
	ID      string
	Created int64
	Model   string
}

// maxTranscript is how much text is kept for somebody else to go on with, in bytes.
const maxTranscript = 4 << 20

// Observe takes an event of the stream into account.
func (s *Transcript) Observe(data []byte) {
	if s.NotResumable != "" || len(data) == 0 || wire.IsDone(data) {
		return
	}
	if s.Text.Len() > maxTranscript {
		s.NotResumable = "it is too long"
		return
	}
	if text, ok := s.fastPath(data); ok {
		s.Text.Write(text)
		s.Tokens++
		return
	}
	event := gjson.ParseBytes(data)
	text := s.Dialect.Observe(s, event)
	if text != "" {
		s.Text.WriteString(text)
		s.Tokens++
	}
	s.textContext = [2][]byte{}
	if text != "" && s.NotResumable == "" && s.Finish == "" && !event.Get("usage").Exists() {
		if value := event.Get(s.Dialect.textPath()); value.Index > 0 && bytes.HasPrefix(data[value.Index:], []byte(value.Raw)) {
			s.textContext = [2][]byte{bytes.Clone(data[:value.Index+1]), bytes.Clone(data[value.Index+len(value.Raw)-1:])}
		}
	}
}

// fastPath returns the text of an event that says the same as the last one but for
// its text, as nearly all events of a stream do. It spares a parser.
func (s *Transcript) fastPath(data []byte) (text []byte, ok bool) {
	before, after := s.textContext[0], s.textContext[1]
	if len(before) == 0 || len(data) <= len(before)+len(after) || !bytes.HasPrefix(data, before) || !bytes.HasSuffix(data, after) {
		return nil, false
	}
	text = data[len(before) : len(data)-len(after)]
	return text, bytes.IndexByte(text, '"') < 0 && bytes.IndexByte(text, '\\') < 0
}

// MinOverlap is from which length on a text that comes again is a repetition, in
// bytes, and not a list of ones.
const MinOverlap = 16

// OverlapFilter takes out of a continuation what repeats the text that it continues: there
// are backends that begin anew, or say the last message once more. White space
// before either is passed over: chat templates trim messages.
type OverlapFilter struct {
	before string // the text so far, without the space that it begins with
	lead   string // the space that the continuation begins with, held back
	held   int    // so much of before has come again, and is held back
	over   bool
}

func NewOverlapFilter(before string) OverlapFilter {
	e := OverlapFilter{before: strings.TrimLeft(before, space)}
	e.over = len(e.before) < MinOverlap // as much is said twice by chance
	return e
}

const space = " \t\r\n"

// Filter returns what of some more text is new. What may still be repetition is
// held back.
func (e *OverlapFilter) Filter(text string) string {
	if e.over {
		return text
	}
	if e.held == 0 {
		trimmed := strings.TrimLeft(text, space)
		e.lead += text[:len(text)-len(trimmed)]
		text = trimmed
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
	return e.lead + e.before[:e.held] + text
}

// Flush returns what was held back and is no repetition after all. One that ended
// since it had no more tokens is a repetition that it did not get to the end of.
func (e *OverlapFilter) Flush(finish string) string {
	if e.over {
		return ""
	}
	e.over = true
	if finish == "length" && e.held >= MinOverlap {
		return ""
	}
	return e.lead + e.before[:e.held]
}
