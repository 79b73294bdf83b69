package wire

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/tidwall/gjson"
)

// Dialect is one API format: how to see that a backend has answered, that its answer is
// complete, and how to write an error.
type Dialect interface {
	// InspectEvent reads an event of a stream. Once the stream is committed, only its
	// end, its errors and its usage matter.
	InspectEvent(e Event, committed bool) EventInfo
	// InspectBody reads a complete answer with status 200.
	InspectBody(body []byte) EventInfo
	// ErrorEvent writes the event that ends a stream with an error.
	ErrorEvent(Error) []byte
	// ErrorBody writes the body of an error response.
	ErrorBody(Error) []byte
}

// ErrorCompleter is a Dialect that has its own form of errors, which many backends do not
// write.
type ErrorCompleter interface {
	// CompleteError returns the body of a backend's error in the dialect's form.
	CompleteError(status int, body []byte) []byte
}

// Progressive is a Dialect whose whole answers are passed on while they arrive.
type Progressive interface {
	// HeldBytes returns how much of an answer is read before it is passed on, in bytes: a
	// shorter one is inspected first. json is whether its media type is that of JSON.
	HeldBytes(json bool) int
}

// EventInfo is what the router learns from an event or a complete answer. The zero value
// is an event without information: a comment, a role, an empty delta.
type EventInfo struct {
	Answered  bool   // it has content for the client
	Ended     bool   // the stream is complete after it
	Finished  uint64 // choices whose finish reason it has: bit 0 is the first choice
	Completed bool   // it completes one of the things that the call asks for n of, which have no numbers: an image
	Failed    string // the backend's error message; "" = no error
	Usage     Usage
}

// Whole returns whether an event that the stream's end cut off is complete all the same:
// it is the end mark, and only the empty line after it is missing.
func (m EventInfo) Whole(e Event) bool {
	return m.Ended && (IsDone(e.Data) || ValidJSON(e.Data))
}

// ErrorMessage returns the message of an object's "error"; "" = it has none. Backends
// write it as an object or as text.
func ErrorMessage(object gjson.Result) string { return errorMessage(object.Get("error")) }

// errorMessage returns the message in the value of an "error".
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

// MightContain is a cheap test that saves parsing most events of a committed stream.
func MightContain(data []byte, field string) bool { return bytes.Contains(data, []byte(field)) }

// NotJSON describes an answer that cannot be read.
const NotJSON = "an answer that is not a JSON object"

// parseObject parses a complete answer. failed is why it is not one; "" = it is.
func parseObject(body []byte) (object gjson.Result, failed string) {
	if !ValidJSON(body) {
		return object, NotJSON
	}
	object = gjson.ParseBytes(body)
	if !object.IsObject() {
		return object, NotJSON
	}
	return object, ErrorMessage(object)
}

// WriteJSON sends a value that MustJSON can encode.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(MustJSON(v), '\n')) // an error means that the client closed the connection
}

// MustJSON encodes a value that cannot fail: llmsup's own structs of strings.
func MustJSON(v any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // an answer is not HTML: "text->text" stays readable
	if err := encoder.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte{'\n'})
}
