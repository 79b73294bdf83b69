package config

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Duration is a length of time that may be long: Go's durations, and days and weeks.
type Duration time.Duration

const (
	day  = 24 * time.Hour
	week = 7 * day
	// maxDays is beyond what anybody keeps, and far from overflow, in days.
	maxDays = 36_500
)

// longUnits are the weeks and days that a span may begin with.
var longUnits = regexp.MustCompile(`^(?:(\d{1,5})w)?(?:(\d{1,5})d)?`)

var errBadDuration = errors.New("is no length of time; want one as in 24h, 7d or 2w")

// ParseDuration reads 24h, 7d, 2w or 1w2d12h: never less than 0.
func ParseDuration(text string) (time.Duration, error) {
	m := longUnits.FindStringSubmatch(text)
	weeks, _ := strconv.Atoi("0" + m[1]) // digits, five at most
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

// UnmarshalYAML reads a span.
func (s *Duration) UnmarshalYAML(node *yaml.Node) error {
	d, err := ParseDuration(strings.TrimSpace(node.Value))
	if node.Kind != yaml.ScalarNode || err != nil {
		return &valueError{line: node.Line, want: "a length of time, as in 24h, 7d or 2w"}
	}
	*s = Duration(d)
	return nil
}

// String writes it as it is read: in days where it is whole ones.
func (s Duration) String() string {
	d := time.Duration(s)
	if d > 0 && d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	return d.String()
}
