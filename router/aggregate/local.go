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
	// errNotSame is a stream that left out what the whole answer would have had:
	// ask again without streaming.
	ErrNotSame = errors.New("the stream does not tell what a whole answer would have said")
	// errUnfamiliar is a stream of a form that this was not written for, as of a
	// later llama-server: ask again without streaming, and so with the next calls.
	ErrUnknownFormat = errors.New("the stream has another form than llama-server's")
	// errNotWhole is a stream without its end.
	ErrTruncated = errors.New("the stream broke off")
	// errTooLong is an answer over maxHeld.
	ErrTooLong = errors.New("the answer is over " + fmt.Sprint(MaxBytes>>20) + " MiB")
)

// LocalError is an error that llama-server ran into once its stream had begun.
// Without a stream its answer would have had this status and this body.
type LocalError struct {
	Status int
	Body   string
}

func (e *LocalError) Error() string {
	return "the stream ended with an error: " + wire.ErrorMessage(gjson.Parse(e.Body))
}

// localError is the error of an event.
func localError(data string) *LocalError {
	failed := &LocalError{http.StatusInternalServerError, data}
	if code := gjson.Get(data, "error.code"); code.Type == gjson.Number && wire.IsErrorStatus(int(code.Int())) {
		failed.Status = int(code.Int())
	}
	return failed
}

// formAggregator puts the whole answer together from the events of a stream of
// llama-server's. It takes only what it knows: a stream with a field that it has
// never seen is refused as errUnfamiliar, so that nothing is left out unseen. Its
// texts stay escaped as they came.
type formAggregator struct {
	streamed Form
	choices  []localChoice
	last     *localChoice // whose finish reason came last
	size     int          // bytes kept
	ended    bool
	err      error // what an earlier event was refused with

	id, model, fingerprint, created string // as JSON
	usage, timings                  string // of the first choice, as JSON; llama-server tells no others
	extra                           string // unknown fields beside usage: `,"key":value`...
}

func newLocalAggregator(s Form) *formAggregator {
	return &formAggregator{streamed: s, choices: make([]localChoice, s.choices)}
}

// chunk is what one event of the stream says.
type chunk struct {
	choice         gjson.Result
	choices        int
	usage, timings gjson.Result
	extra          string
}

// Add takes the next event. After an error the stream is of no use any more, but
// for what soFar tells.
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
		return a.complete()
	case e.Cut:
		return ErrTruncated
	case len(e.Data) == 0:
		return nil // a ping
	case a.ended:
		return fmt.Errorf("%w: it goes on after its end", ErrUnknownFormat)
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
		at, err = a.takeChoice(ch)
	} else if ch.choices != 0 || at == nil || !ch.usage.Exists() {
		err = fmt.Errorf("%w: an event has %d choices", ErrUnknownFormat, ch.choices)
	}
	if err != nil {
		return err
	}
	at.count(ch.timings)
	if !ch.usage.Exists() {
		return nil
	}
	return a.close(at, ch)
}

// readHeader reads the fields around the choices, which are the same in each event.
func (a *formAggregator) readHeader(object gjson.Result) (ch chunk, err error) {
	unknown, kind := "", "text_completion"
	if a.streamed.chat {
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
			a.keep(&a.id, value.Raw)
		case "model":
			a.keep(&a.model, value.Raw)
		case "system_fingerprint":
			a.keep(&a.fingerprint, value.Raw)
		case "created":
			a.keep(&a.created, value.Raw)
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
			ch.extra += "," + key.Raw + ":" + value.Raw
		}
		return true
	})
	switch {
	case a.size > MaxBytes:
		return ch, ErrTooLong
	case ch.usage.Exists() && !ch.usage.IsObject(), ch.timings.Exists() && !ch.timings.IsObject():
		return ch, fmt.Errorf("%w: its usage is no object", ErrUnknownFormat)
	case unknown != "" && (ch.extra == "" || !ch.usage.Exists()):
		// Beside the usage it would stand in a whole answer, too: llama-server
		// writes both from the same figures.
		return ch, fmt.Errorf("%w: an event has the unknown %s", ErrUnknownFormat, wire.Shorten(unknown))
	}
	return ch, nil
}

// keep remembers what an answer has only once.
func (a *formAggregator) keep(where *string, raw string) {
	if *where == "" {
		*where = strings.Clone(raw) // not the whole event with it
		a.size += len(raw)
	}
}

// close takes the figures that end a choice.
func (a *formAggregator) close(at *localChoice, ch chunk) error {
	tokens := wire.Count(ch.usage.Get("completion_tokens"))
	calls := true
	for i := range at.calls {
		calls = calls && at.calls[i].id != "" && at.calls[i].name != ""
	}
	if tokens == nil || !calls || at.finish == "" || at.closed {
		return fmt.Errorf("%w: a choice ends without its finish reason, its usage or a tool call's name", ErrUnknownFormat)
	}
	if missing := at.missing(*tokens, a.streamed); missing != "" {
		return fmt.Errorf("%w: %s", ErrNotSame, missing)
	}
	at.spent, at.closed = *tokens, true
	if at == &a.choices[0] {
		a.keep(&a.usage, ch.usage.Raw)
		a.keep(&a.timings, ch.timings.Raw)
		a.keep(&a.extra, ch.extra)
	}
	return nil
}

func (a *formAggregator) Done() bool { return a.ended }

// complete says whether nothing is missing once the stream has ended.
func (a *formAggregator) complete() error {
	for i := range a.choices {
		if !a.choices[i].closed {
			return fmt.Errorf("%w: choice %d has no usage", ErrUnknownFormat, i)
		}
	}
	return nil
}

// Result returns the answer as llama-server would have given it without a stream:
// the same fields with the same values, in its own order. It is an error before
// the stream's end.
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
		if a.streamed.chat {
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
	return append(append(out, a.extra...), '}'), nil
}

// Partial is what has come of an answer, for somebody else to go on with.
type Partial struct {
	Text      string // of the first choice: content, or a completion's text
	Reasoning string // of the first choice
	Tokens    int64  // spent on all choices; none is told before its first event
	Called    bool   // a tool call was begun
	Logprobs  bool   // there are logprobs
	Several   bool   // more than one choice was asked for
	Finished  bool   // the first choice has its finish reason
}

func (a *formAggregator) Partial() Partial {
	first := &a.choices[0]
	s := Partial{
		Text: unescape(first.text.String()), Reasoning: unescape(first.reasoning.String()),
		Several: len(a.choices) > 1, Finished: first.finish != "",
	}
	for i := range a.choices {
		s.Tokens += a.choices[i].spent
		s.Called = s.Called || len(a.choices[i].calls) > 0
		s.Logprobs = s.Logprobs || a.choices[i].logprobs.Len() > 0
	}
	return s
}

func unescape(text string) string { return gjson.Parse(`"` + text + `"`).Str }
