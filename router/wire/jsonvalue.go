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

// IsObject says whether a valid JSON text is an object.
func IsObject(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text, " \n\t\r"), []byte("{"))
}

func ValidJSON(text []byte) bool { return Scan(text, nil) }

// MemberName is what a key says, in spite of its looks: "\u006dodel" is the same as
// "model" to every parser.
func MemberName(key []byte) []byte {
	if bytes.IndexByte(key, '\\') >= 0 {
		return []byte(Unquote(string(key)))
	}
	return key[1 : len(key)-1]
}

// Unquote reads a JSON string.
func Unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1]
	}
	return gjson.Parse(s).Str
}

// Quote writes a JSON string. strconv's Quote would escape as Go does.
func Quote(s string) string {
	if needsNoEscape(s) {
		return `"` + s + `"`
	}
	out, err := json.Marshal(s)
	if err != nil { // can't be: every string can be marshalled
		return strconv.Quote(s)
	}
	return string(out)
}

// needsNoEscape says whether a text means itself in a JSON string, as a model's name does.
func needsNoEscape(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// LenientNumber reads a number in whatever form a backend may take for one: 100000, 1e5,
// 100000.0 or "100000". 0 = it is none, or not above 0.
func LenientNumber(value []byte) int64 {
	text := string(value)
	if value[0] == '"' {
		text = strings.TrimSpace(Unquote(text))
	}
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && n > 0, n > math.MaxInt32:
		return math.MaxInt32 // two of them multiplied are an int64
	case err != nil, !(n > 0): // NaN, too
		return 0
	}
	return int64(math.Ceil(n))
}
