package wire

import (
	"bytes"
	"encoding/json"

	"github.com/tidwall/gjson"
)

// Dialect is what the router has to know of one wire format: when a backend
// has answered, when its answer is whole, and how to say that it is not.
type Dialect interface {
	// InspectEvent says what an event of a stream means. Once the stream is committed,
	// only its end, its errors and its usage still matter.
	InspectEvent(e Event, committed bool) EventInfo
	// InspectBody says what a whole answer with status 200 means.
	InspectBody(body []byte) EventInfo
	// ErrorEvent is how a stream says that it broke.
	ErrorEvent(Error) []byte
	// ErrorBody is the body of an answer that is an error.
	ErrorBody(Error) []byte
}

// EventInfo is what an event, or a whole answer, tells the router. The zero value
// is an event that says nothing: a comment, a role, an empty delta.
type EventInfo struct {
	Answered bool   // it carries something that the client asked for
	Ended    bool   // after it the stream is whole
	Finished uint64 // the choices that have their finish reason with it: bit 0 is the first one's
	Failed   string // the backend's own words for why it has no answer
	Usage    Usage
}

// Whole says whether an event that the stream's end cut off can still be taken
// for a whole one: the end mark itself, of which only the empty line is missing.
func (m EventInfo) Whole(e Event) bool {
	return m.Ended && (IsDone(e.Data) || ValidJSON(e.Data))
}

// ErrorMessage returns the words of the "error" that an object carries, "" where it
// carries none. Backends write it as an object or as plain text.
func ErrorMessage(object gjson.Result) string { return errorMessage(object.Get("error")) }

// errorMessage returns the words of the value of an "error".
func errorMessage(e gjson.Result) string {
	switch {
	case !HasContent(e), e.Type == gjson.Number && e.Num == 0:
		return ""
	case e.Type == gjson.String:
		return e.Str
	}
	if message := e.Get("message"); message.Type == gjson.String && message.Str != "" {
		return message.Str
	}
	return "an error without a message"
}

// MightContain is a cheap test that keeps the parser away from most events of a
// committed stream.
func MightContain(data []byte, field string) bool { return bytes.Contains(data, []byte(field)) }

const NotJSON = "an answer that is not a JSON object"

// wellFormed parses a whole answer, or says why it is none.
func wellFormed(body []byte) (object gjson.Result, failed string) {
	if !ValidJSON(body) {
		return object, NotJSON
	}
	object = gjson.ParseBytes(body)
	if !object.IsObject() {
		return object, NotJSON
	}
	return object, ErrorMessage(object)
}

func MustJSON(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil { // the values are llmsup's own structs of strings
		panic(err)
	}
	return out
}
