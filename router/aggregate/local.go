package aggregate

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

var (
	// ErrNotSame is a stream that lacks a part of the whole answer: the call must be
	// sent again without streaming.
	ErrNotSame = errors.New("the stream lacks a part of the whole answer")
	// ErrUnknownFormat is a stream in an unknown format, such as that of a later
	// llama-server: this call and the next ones must be sent without streaming.
	ErrUnknownFormat = errors.New("unknown stream format")
	// ErrTruncated is a stream without its end.
	ErrTruncated = errors.New("the stream is truncated")
	// ErrTooLong is an answer over MaxBytes.
	ErrTooLong = errors.New("the answer exceeds " + fmt.Sprint(MaxBytes>>20) + " MiB")
)

// LocalError is an error of llama-server after its stream had begun. Without a stream the
// answer would have had this status and this body.
type LocalError struct {
	Status int
	Body   string
}

func (e *LocalError) Error() string {
	return "the stream ended with an error: " + wire.ErrorMessage(gjson.Parse(e.Body))
}

// localError returns the error of an error event.
func localError(data string) *LocalError {
	failed := &LocalError{http.StatusInternalServerError, data}
	if code := gjson.Get(data, "error.code"); code.Type == gjson.Number && wire.IsErrorStatus(int(code.Int())) {
		failed.Status = int(code.Int())
	}
	return failed
}

// formAggregator builds the whole answer from the events of a llama-server stream. It
// accepts only known fields: a stream with an unknown field is rejected as
// ErrUnknownFormat, so that no part of an answer is lost. Its texts stay escaped as they
// were received.
type formAggregator struct {
	form    Form
	choices []localChoice
	last    *localChoice // the choice whose finish reason came last
	size    int          // bytes kept
	ended   bool
	err     error // of an earlier event

	id, model, fingerprint, created string // as JSON
	usage, timings                  string // of the first choice, as JSON; llama-server's whole answers have no others
	unknownFields                   string // unknown fields beside usage: `,"key":value`...
}

func newLocalAggregator(s Form) *formAggregator {
	return &formAggregator{form: s, choices: make([]localChoice, s.choices)}
}

// chunk is the content of one event.
type chunk struct {
	choice         gjson.Result
	choices        int
	usage, timings gjson.Result
	unknownFields  string
}

// Add adds the next event. After an error only Partial may be used.
func (a *formAggregator) Add(e wire.Event) error {
	if a.err == nil {
		a.err = a.addEvent(e)
	}
	return a.err
}

func (a *formAggregator) addEvent(e wire.Event) error {
	switch {
	case wire.IsDone(e.Data):
		a.ended = true
		return a.checkComplete()
	case e.Cut:
		return ErrTruncated
	case len(e.Data) == 0:
		return nil // a ping
	case a.ended:
		return fmt.Errorf("%w: an event after the end mark", ErrUnknownFormat)
	}
	data := string(e.Data)
	if !wire.ValidJSON(e.Data) || e.Data[0] != '{' {
		return fmt.Errorf("%w: an event is %s", ErrUnknownFormat, wire.NotJSON)
	}
	object := gjson.Parse(data)
	if wire.ErrorMessage(object) != "" {
		return localError(data)
	}
	if e.Name != nil {
		return fmt.Errorf("%w: an event is named %q", ErrUnknownFormat, e.Name)
	}
	ch, err := a.readHeader(object)
	if err != nil {
		return err
	}
	at := a.last
	if ch.choices == 1 {
		at, err = a.addChoice(ch)
	} else if ch.choices != 0 || at == nil || !ch.usage.Exists() {
		err = fmt.Errorf("%w: an event has %d choices", ErrUnknownFormat, ch.choices)
	}
	if err != nil {
		return err
	}
	at.countTokens(ch.timings)
	if !ch.usage.Exists() {
		return nil
	}
	return a.closeChoice(at, ch)
}

// readHeader reads the fields around the choices, which are the same in each event.
func (a *formAggregator) readHeader(object gjson.Result) (ch chunk, err error) {
	unknown, kind := "", "text_completion"
	if a.form.chat {
		kind = "chat.completion.chunk"
	}
	object.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "choices":
			ch.choices = -1
			if value.IsArray() {
				ch.choices = 0
				value.ForEach(func(_, choice gjson.Result) bool { ch.choice = choice; ch.choices++; return true })
			}
		case "id":
			a.setOnce(&a.id, value.Raw)
		case "model":
			a.setOnce(&a.model, value.Raw)
		case "system_fingerprint":
			a.setOnce(&a.fingerprint, value.Raw)
		case "created":
			a.setOnce(&a.created, value.Raw)
		case "object":
			if value.Str != kind {
				unknown = "object " + value.Raw
			}
		case "usage":
			if value.Type != gjson.Null {
				ch.usage = value
			}
		case "timings":
			ch.timings = value
		default:
			unknown = "field " + key.Raw
			ch.unknownFields += "," + key.Raw + ":" + value.Raw
		}
		return true
	})
	switch {
	case a.size > MaxBytes:
		return ch, ErrTooLong
	case ch.usage.Exists() && !ch.usage.IsObject(), ch.timings.Exists() && !ch.timings.IsObject():
		return ch, fmt.Errorf("%w: the usage is not an object", ErrUnknownFormat)
	case unknown != "" && (ch.unknownFields == "" || !ch.usage.Exists()):
		// An unknown field next to the usage is in whole answers, too: llama-server
		// writes both from the same data.
		return ch, fmt.Errorf("%w: an event has the unknown %s", ErrUnknownFormat, wire.Shorten(unknown))
	}
	return ch, nil
}

// setOnce sets a field that an answer has only once, if it is not set yet.
func (a *formAggregator) setOnce(where *string, raw string) {
	if *where == "" {
		*where = strings.Clone(raw) // without a reference to the whole event
		a.size += len(raw)
	}
}

// closeChoice ends a choice with its usage and timings.
func (a *formAggregator) closeChoice(at *localChoice, ch chunk) error {
	tokens := wire.Count(ch.usage.Get("completion_tokens"))
	calls := true
	for i := range at.calls {
		calls = calls && at.calls[i].id != "" && at.calls[i].name != ""
	}
	if tokens == nil || !calls || at.finish == "" || at.closed {
		return fmt.Errorf("%w: a choice ends without its finish reason, its usage or a tool call's name", ErrUnknownFormat)
	}
	if missing := at.missing(*tokens, a.form); missing != "" {
		return fmt.Errorf("%w: %s", ErrNotSame, missing)
	}
	at.spent, at.closed = *tokens, true
	if at == &a.choices[0] {
		a.setOnce(&a.usage, ch.usage.Raw)
		a.setOnce(&a.timings, ch.timings.Raw)
		a.setOnce(&a.unknownFields, ch.unknownFields)
	}
	return nil
}

func (a *formAggregator) Done() bool { return a.ended }

// checkComplete returns an error if a choice is incomplete after the stream's end.
func (a *formAggregator) checkComplete() error {
	for i := range a.choices {
		if !a.choices[i].closed {
			return fmt.Errorf("%w: choice %d has no usage", ErrUnknownFormat, i)
		}
	}
	return nil
}

// Result returns the answer that llama-server would have sent without a stream: the same
// fields with the same values, in llama-server's order. Before the stream's end it returns
// an error.
func (a *formAggregator) Result() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	if !a.ended {
		return nil, ErrTruncated
	}
	kind := "text_completion"
	out := append(make([]byte, 0, a.size+1024), `{"choices":[`...)
	for i := range a.choices {
		if i > 0 {
			out = append(out, ',')
		}
		if a.form.chat {
			kind = "chat.completion"
			out = a.choices[i].appendChat(out, i)
		} else {
			out = a.choices[i].appendText(out, i)
		}
	}
	out = append(out, ']')
	for _, field := range []struct{ name, raw string }{
		{"created", a.created},
		{"model", a.model},
		{"system_fingerprint", a.fingerprint},
		{"object", strconv.Quote(kind)},
		{"usage", a.usage},
		{"id", a.id},
		{"timings", a.timings},
	} {
		if field.raw != "" {
			out = append(append(append(append(out, `,"`...), field.name...), `":`...), field.raw...)
		}
	}
	return append(append(out, a.unknownFields...), '}'), nil
}

// Partial is the beginning of an answer, from which another backend may continue.
type Partial struct {
	Text            string // of the first choice: content, or a completion's text
	Reasoning       string // of the first choice
	Tokens          int64  // of all choices, those without an event excepted
	HasToolCall     bool   // a tool call has begun
	Logprobs        bool   // there are logprobs
	MultipleChoices bool   // more than one choice was asked for
	Finished        bool   // the first choice has its finish reason
}

func (a *formAggregator) Partial() Partial {
	first := &a.choices[0]
	s := Partial{
		Text: unescape(first.text.String()), Reasoning: unescape(first.reasoning.String()),
		MultipleChoices: len(a.choices) > 1, Finished: first.finish != "",
	}
	for i := range a.choices {
		s.Tokens += a.choices[i].spent
		s.HasToolCall = s.HasToolCall || len(a.choices[i].calls) > 0
		s.Logprobs = s.Logprobs || a.choices[i].logprobs.Len() > 0
	}
	return s
}

func unescape(text string) string { return gjson.Parse(`"` + text + `"`).Str }
