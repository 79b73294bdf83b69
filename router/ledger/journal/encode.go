package journal

import (
	"encoding/json"
	"strconv"

	"github.com/llmsup/llmsup/router/usd"
)

// appendJSON appends what encoding/json would write for the entry, at a quarter of the
// cost: each call has a line.
func (e *Entry) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), e.ID, 10)
	b = strconv.AppendInt(append(b, `,"time":`...), e.Unix, 10)
	if e.FirstAnswerMS != 0 {
		b = strconv.AppendInt(append(b, `,"first_ms":`...), e.FirstAnswerMS, 10)
	}
	b = strconv.AppendInt(append(b, `,"ms":`...), e.DurationMS, 10)
	if e.WaitMS != 0 {
		b = strconv.AppendInt(append(b, `,"wait_ms":`...), e.WaitMS, 10)
	}
	for i, id := range e.Ends {
		if i == 0 {
			b = append(b, `,"ends":[`...)
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id, 10)
	}
	if len(e.Ends) > 0 {
		b = append(b, ']')
	}
	b = appendString(append(b, `,"request":`...), e.Request)
	b = appendText(b, `,"key":`, e.Key)
	b = appendText(b, `,"route":`, e.Route)
	b = appendText(b, `,"model":`, e.Model)
	b = appendText(b, `,"backend":`, e.Backend)
	b = appendText(b, `,"served":`, e.Served)
	b = appendText(b, `,"reason":`, e.Reason)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(e.Status), 10)
	b = appendFlag(b, `,"stream":true`, e.Stream)
	b = appendFlag(b, `,"local":true`, e.Local)
	b = appendFlag(b, `,"meant":true`, e.LocalPrimary)
	b = appendFlag(b, `,"paid":true`, e.Paid)
	b = appendFlag(b, `,"resumed":true`, e.Resumed)
	b = appendFlag(b, `,"partial":true`, e.Partial)
	b = appendTokens(b, `,"prompt":`, e.Prompt)
	b = appendTokens(b, `,"cached":`, e.Cached)
	b = appendTokens(b, `,"completion":`, e.Completion)
	b = appendAmount(b, `,"cost":`, e.Cost)
	b = appendAmount(b, `,"charged":`, e.Charged)
	b = appendAmount(b, `,"saved":`, e.Saved)
	if len(e.Attempts) > 0 {
		b = append(append(b, `,"attempts":`...), AttemptsJSON(e.Attempts)...)
	}
	return append(b, '}')
}

func appendText(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendString(append(b, name...), text)
}

func appendFlag(b []byte, member string, set bool) []byte {
	if !set {
		return b
	}
	return append(b, member...)
}

func appendTokens(b []byte, name string, n *int64) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendInt(append(b, name...), *n, 10)
}

func appendAmount(b []byte, name string, a *usd.Amount) []byte {
	if a == nil {
		return b
	}
	return a.Append(append(b, name...))
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' { // encoding/json escapes it, or may
			quoted, _ := json.Marshal(s) // of a string it never fails
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
