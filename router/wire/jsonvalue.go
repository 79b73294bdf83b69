package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// IsObject returns whether a valid JSON text is an object.
func IsObject(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text, " \n\t\r"), []byte("{"))
}

// ValidJSON returns whether encoding/json accepts a text.
func ValidJSON(text []byte) bool { return Scan(text, nil) }

// MemberName returns the name that a quoted key stands for: every parser reads
// "\u006dodel" as "model".
func MemberName(key []byte) []byte {
	if bytes.IndexByte(key, '\\') >= 0 {
		return []byte(Unquote(string(key)))
	}
	return key[1 : len(key)-1]
}

// Unquote returns the text of a JSON string.
func Unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1]
	}
	return gjson.Parse(s).Str
}

// Quote writes a JSON string. strconv.Quote uses Go's escapes, some of which JSON lacks.
func Quote(s string) string {
	if isPlainASCII(s) {
		return `"` + s + `"`
	}
	out, err := json.Marshal(s)
	if err != nil { // never: every string can be encoded
		return strconv.Quote(s)
	}
	return string(out)
}

// isPlainASCII returns whether a text needs no escape in a JSON string, as most names.
func isPlainASCII(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// LenientNumber reads a positive number in each form that some backend accepts: 100000,
// 1e5, 100000.0 or "100000". It returns 0 for anything else.
func LenientNumber(value []byte) int64 {
	text := string(value)
	if value[0] == '"' {
		text = strings.TrimSpace(Unquote(text))
	}
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && n > 0, n > math.MaxInt32:
		return math.MaxInt32 // the product of two fits an int64
	case err != nil, !(n > 0): // NaN too
		return 0
	}
	return int64(math.Ceil(n))
}
