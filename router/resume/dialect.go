package resume

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Dialect reads and continues the text streams of one API dialect.
type Dialect struct {
	reader
	writer
	OutOfTokens string // finish reason of an answer that reached its token limit
}

// reader reads events: of the stream that broke off, and of its continuation.
type reader interface {
	// observe adds an event of the stream that broke off to its transcript, and returns
	// the text in it.
	observe(t *Transcript, event gjson.Result) (text string)
	// textPath is where an event has its text, as a gjson path.
	textPath() string
	// Continuation returns the text and the finish reason of an event of the
	// continuation. notResumable is why the event cannot be passed on; "" = it can.
	Continuation(event gjson.Result) (text, finish, notResumable string)
}

// writer writes the request for a continuation, and the rest of the answer.
type writer interface {
	// ExtendRequest returns the change to a request's body that asks for a continuation
	// of text; ok is false if the body has no place for it.
	ExtendRequest(body gjson.Result, text string) (change wire.Edit, ok bool)
	// Join inserts the partial answer before a complete one that continues it.
	Join(body string, p PartialAnswer) (joined string, ok bool)
	// TextEvent returns an event with text.
	TextEvent(h EventHeader, text string) []byte
	// FinishEvent returns the event with the finish reason; nil if End writes it.
	FinishEvent(h EventHeader, finish string) []byte
	// End returns the events after FinishEvent. includeUsage: the client asked for the
	// usage.
	End(t *Transcript, u wire.Usage, includeUsage bool) []byte
}

// DialectOf returns the dialect of a path; nil if its streams cannot be continued.
func DialectOf(path string) *Dialect {
	switch path {
	case "/v1/chat/completions":
		return &Dialect{choiceReader{chatText{}}, choiceWriter{chatText{}}, "length"}
	case "/v1/completions":
		return &Dialect{choiceReader{completionText{}}, choiceWriter{completionText{}}, "length"}
	case "/v1/messages":
		return &Dialect{messagesReader{}, messagesWriter{}, "max_tokens"}
	}
	return nil
}
