package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ByteSize is a number of bytes, written as 33554432, 32MiB or 32MB.
type ByteSize int64

var byteUnits = map[string]int64{
	"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}

// maxSize keeps sizes far from overflow.
const maxSize = 1 << 40

// UnmarshalYAML reads a size. go-humanize reads "1,5GB" as 15 GB and "32M" as 32 MB,
// where an operator may mean something else; both are errors here.
func (s *ByteSize) UnmarshalYAML(node *yaml.Node) error {
	text := strings.ToLower(strings.TrimSpace(node.Value))
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	unit, known := byteUnits[strings.TrimSpace(text[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if node.Kind != yaml.ScalarNode || !known || err != nil || n <= 0 || n > maxSize/unit {
		return &valueError{line: node.Line, want: "a size (example: 32MiB)"}
	}
	*s = ByteSize(n * unit)
	return nil
}

// valueError is about a value of the wrong form. It does not repeat the value, since a
// key may have been pasted in the wrong place.
type valueError struct {
	line int
	want string
}

func (e *valueError) Error() string {
	return fmt.Sprintf("line %d: wrong value; want %s", e.line, e.want)
}
