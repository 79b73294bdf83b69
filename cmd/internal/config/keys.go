package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// keysOf lists the YAML keys of a struct.
func keysOf(v any) []string {
	var keys []string
	for f := range reflect.TypeOf(v).Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// suggestion names the key that was probably meant, or all that there are.
func suggestion(key, goType string) string {
	known := knownKeys[goType]
	best, least := "", 3 // more than two letters apart is another word
	for _, k := range known {
		if d := distance(strings.ToLower(key), k); d < least {
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

// distance is Levenshtein's: how many letters to insert, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
