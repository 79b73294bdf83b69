package units

import (
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestByteSize(t *testing.T) {
	for text, want := range map[string]ByteSize{
		"1": 1, "33554432": 32 << 20, "32MiB": 32 << 20, "10MB": 10_000_000, "10 mb": 10_000_000, "2gib": 2 << 30, "1KiB": 1024, "1kB": 1000, "7B": 7, "1024GiB": 1 << 40,
		"0": 0, "-1": 0, "": 0, "MiB": 0, "1.5MiB": 0, "32M": 0, "1025GiB": 0, "99999999999999999999": 0, "1e6": 0, "[1]": 0,
	} {
		var s ByteSize
		err := yaml.Unmarshal([]byte("max_body: "+text), &struct {
			MaxBody *ByteSize `yaml:"max_body"`
		}{&s})
		if text == "" {
			continue // null: as it was
		}
		if s != want || (err == nil) != (want > 0) {
			t.Errorf("%q = %d, %v; want %d", text, s, err, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "24h": day, "7d": week, "2w": 2 * week, "1w2d12h": 9*day + 12*time.Hour, "36500d": 36500 * day,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		if again, err := ParseDuration(Duration(want).String()); err != nil || again != want {
			t.Errorf("%s is written as %s, which is %s, %v", text, Duration(want), again, err)
		}
	}
	for _, text := range []string{"", "d", "7", "-7d", "7 d", "d7", "1d2w", "36501d", "99999w", "999999d", "1d-1h", "1y", "9999999h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}
