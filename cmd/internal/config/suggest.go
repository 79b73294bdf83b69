package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/xrash/smetrics"
)

// yamlKeys returns the YAML keys of a struct.
func yamlKeys(v any) []string {
	var keys []string
	for f := range reflect.TypeOf(v).Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// suggest returns the key that was probably meant, or all keys.
func suggest(key, goType string) string {
	known := knownKeys[goType]
	best, least := "", 3 // more than two edits apart is another word
	for _, k := range known {
		if d := smetrics.WagnerFischer(strings.ToLower(key), k, 1, 1, 1); d < least {
			best, least = k, d
		}
	}
	if i := slices.IndexFunc(known, func(k string) bool { return strings.HasPrefix(k, key+"_") }); best == "" && i >= 0 {
		best = known[i] // api_key for api_key_env
	}
	switch {
	case best != "":
		return fmt.Sprintf("; did you mean %q?", best)
	case known != nil:
		return "; there are " + strings.Join(known, ", ")
	}
	return ""
}
