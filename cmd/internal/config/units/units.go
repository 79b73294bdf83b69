// Package units reads the durations and sizes of llmsup.yaml and of flags: 7d, 32MiB.
package units

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/models"
)

// Duration is a duration that may also be written in days and weeks.
type Duration time.Duration

const (
	day  = 24 * time.Hour
	week = 7 * day
	// maxDays is a hundred years, which is far from overflow.
	maxDays = 36_500
)

// longUnits matches the weeks and days that a duration may begin with.
var longUnits = regexp.MustCompile(`^(?:(\d{1,5})w)?(?:(\d{1,5})d)?`)

var errBadDuration = errors.New("is not a duration (examples: 24h, 7d, 2w)")

// ParseDuration reads 24h, 7d, 2w or 1w2d12h: never less than 0.
func ParseDuration(text string) (time.Duration, error) {
	m := longUnits.FindStringSubmatch(text)
	weeks, _ := strconv.Atoi("0" + m[1]) // at most five digits
	days, _ := strconv.Atoi("0" + m[2])
	var rest time.Duration
	if more := text[len(m[0]):]; more != "" || m[0] == "" {
		var err error
		if rest, err = time.ParseDuration(more); err != nil || rest < 0 {
			return 0, errBadDuration
		}
	}
	if 7*weeks+days > maxDays || rest > maxDays*day {
		return 0, errBadDuration
	}
	return time.Duration(weeks)*week + time.Duration(days)*day + rest, nil
}

// UnmarshalYAML reads a duration.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := ParseDuration(strings.TrimSpace(node.Value))
	if node.Kind != yaml.ScalarNode || err != nil {
		return &models.ValueError{Line: node.Line, Want: "a duration (examples: 24h, 7d, 2w)"}
	}
	*d = Duration(parsed)
	return nil
}

// String writes the duration in days if they are whole.
func (d Duration) String() string {
	whole := time.Duration(d)
	if whole > 0 && whole%day == 0 {
		return strconv.Itoa(int(whole/day)) + "d"
	}
	return whole.String()
}

// ByteSize is a number of bytes, written as 33554432, 32MiB or 32MB.
type ByteSize int64

var byteUnits = map[string]int64{
	"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}

// maxSize keeps sizes far from overflow.
const maxSize = 1 << 40

// ParseByteSize reads a size. go-humanize reads "1,5GB" as 15 GB and "32M" as 32 MB, where an
// operator may mean something else; neither is ok here.
func ParseByteSize(text string) (size ByteSize, ok bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	unit, known := byteUnits[strings.TrimSpace(text[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !known || err != nil || n <= 0 || n > maxSize/unit {
		return 0, false
	}
	return ByteSize(n * unit), true
}

// UnmarshalYAML reads a size.
func (s *ByteSize) UnmarshalYAML(node *yaml.Node) error {
	size, ok := ParseByteSize(node.Value)
	if !ok || node.Kind != yaml.ScalarNode {
		return &models.ValueError{Line: node.Line, Want: "a size (example: 32MiB)"}
	}
	*s = size
	return nil
}
