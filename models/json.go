package models

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// JSON is a JSON value that is written as YAML. Numbers keep their digits. "" is null, since
// the YAML library does not decode a value of null.
type JSON string

// Text returns the value as JSON.
func (j JSON) Text() string {
	if j == "" {
		return "null"
	}
	return string(j)
}

// MarshalJSON returns the value.
func (j JSON) MarshalJSON() ([]byte, error) { return []byte(j.Text()), nil }

// UnmarshalJSON keeps the value as it is.
func (j *JSON) UnmarshalJSON(raw []byte) error {
	*j = JSON(raw)
	return nil
}

// ValueError is about a value in a configuration file. It does not repeat the value, since a
// key may have been pasted in the wrong place.
type ValueError struct {
	Line int
	Want string // what would be right
}

func (e *ValueError) Error() string { return fmt.Sprintf("line %d: want %s", e.Line, e.Want) }

// UnmarshalYAML converts any YAML value that JSON can express.
func (j *JSON) UnmarshalYAML(node *yaml.Node) error {
	var w jsonWriter
	if err := w.value(node, 0); err != nil {
		return err
	}
	*j = JSON(w.String())
	return nil
}

// An anchor may contain itself or be repeated often, so depth and size of a value are limited.
const (
	maxJSONDepth = 100
	maxJSONSize  = 64 << 10 // bytes
)

// jsonNumber matches what is a number in JSON as well as in YAML.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// jsonWriter writes YAML values as compact JSON.
type jsonWriter struct{ strings.Builder }

func (w *jsonWriter) value(node *yaml.Node, depth int) error {
	if depth > maxJSONDepth || w.Len() > maxJSONSize {
		return &ValueError{node.Line, fmt.Sprintf("a value of at most %d KiB, nested at most %d deep", maxJSONSize>>10, maxJSONDepth)}
	}
	switch node.Kind {
	case yaml.AliasNode:
		return w.value(node.Alias, depth+1)
	case yaml.SequenceNode:
		return w.list(node, depth)
	case yaml.MappingNode:
		return w.object(node, depth)
	case yaml.ScalarNode:
		return w.scalar(node)
	case yaml.DocumentNode: // never below another node
	}
	return errNotJSON(node)
}

func (w *jsonWriter) list(node *yaml.Node, depth int) error {
	w.WriteByte('[')
	for i, item := range node.Content {
		if i > 0 {
			w.WriteByte(',')
		}
		if err := w.value(item, depth+1); err != nil {
			return err
		}
	}
	w.WriteByte(']')
	return nil
}

func (w *jsonWriter) object(node *yaml.Node, depth int) error {
	seen := map[string]bool{}
	w.WriteByte('{')
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || seen[key.Value] {
			return &ValueError{key.Line, "keys that are text, each once, without << and *"}
		}
		seen[key.Value] = true
		if i > 0 {
			w.WriteByte(',')
		}
		w.text(key.Value)
		w.WriteByte(':')
		if err := w.value(node.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	w.WriteByte('}')
	return nil
}

func (w *jsonWriter) scalar(node *yaml.Node) error {
	plain := node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	if plain && jsonNumber.MatchString(node.Value) { // 1e400 too, which the library takes for text
		w.WriteString(node.Value)
		return nil
	}
	switch node.ShortTag() {
	case "!!null":
		w.WriteString("null")
	case "!!str", "!!timestamp":
		w.text(node.Value)
	case "!!bool", "!!int", "!!float":
		var v any
		if err := node.Decode(&v); err != nil {
			return err
		}
		if f, ok := v.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			return errNotJSON(node)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		w.Write(raw)
	default:
		return errNotJSON(node)
	}
	return nil
}

// text writes a string. Other than json.Marshal, it does not escape <, > and &.
func (w *jsonWriter) text(s string) {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can always be encoded
	w.WriteString(strings.TrimSuffix(out.String(), "\n"))
}

func errNotJSON(node *yaml.Node) error {
	return &ValueError{node.Line, "what JSON can express: text, a finite number, true, false, null, a list or a map"}
}
