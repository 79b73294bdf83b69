package config

import (
	"testing"

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
