package journal

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/llmsup/llmsup/router/usd"
)

// Attempt is one of several attempts at a call, or one that failed. It is stored as JSON.
type Attempt struct {
	Backend string      `json:"backend"`
	Model   string      `json:"model,omitempty"`  // its name there
	Reason  string      `json:"reason,omitempty"` // why it failed; "" = it answered
	Status  int         `json:"status,omitempty"` // HTTP; 0 = the backend sent none
	MS      int64       `json:"ms"`               // milliseconds, waiting included
	Cost    *usd.Amount `json:"cost_usd"`         // nil = unknown
	Skipped bool        `json:"skipped,omitempty"`
	Detail  string      `json:"detail,omitempty"` // the reason in plain text
}

// A row's attempts take at most about 6 KB.
const (
	maxAttempts      = 8
	maxAttemptName   = 80 // bytes
	maxAttemptDetail = 160
)

// boundAttempts returns attempts whose number and texts are bounded. The last ones are left
// out, but for the very last.
func boundAttempts(all []Attempt) []Attempt {
	if len(all) == 0 {
		return nil
	}
	var bounded []Attempt
	for i, a := range all {
		if len(all) > maxAttempts && i >= maxAttempts-1 && i < len(all)-1 {
			continue
		}
		a.Backend, a.Model, a.Reason = clipText(a.Backend, maxAttemptName), clipText(a.Model, maxAttemptName), clipText(a.Reason, maxAttemptName)
		a.Detail, a.MS, a.Cost = clipText(a.Detail, maxAttemptDetail), max(a.MS, 0), knownUpTo(a.Cost, usd.Max)
		bounded = append(bounded, a)
	}
	return bounded
}

// clipText truncates a text, and replaces what JSON escapes with many bytes.
func clipText(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// AttemptsJSON returns attempts as the database stores them: a JSON array; "" = there are none.
func AttemptsJSON(attempts []Attempt) string {
	if len(attempts) == 0 {
		return ""
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(attempts) // to memory: it never fails
	return strings.TrimSuffix(b.String(), "\n")
}
