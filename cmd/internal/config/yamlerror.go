package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/xrash/smetrics"
	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/certificate"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/models"
)

var (
	unknownKey     = regexp.MustCompile(`^line (\d+): field (.+) not found in type (\S+)$`)
	duplicateKey   = regexp.MustCompile(`^line (\d+): mapping key (.+) already defined at line (\d+)$`)
	wrongType      = regexp.MustCompile(`(?s)^line (\d+): cannot unmarshal .* into (\S+)$`)
	lineAndMessage = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	quoted         = regexp.MustCompile("(?s)(anchor) '.*?'|(map key): .*|`.*` ") // the library quotes the file
)

// expected describes the value that a Go type takes.
var expected = map[string]string{
	"string": "one line of text", "int": "a whole number", "time.Duration": "a duration (examples: 60s, 2m)",
	"bool":              "true or false",
	"[]string":          "a list (example: [local, gpt-4o])",
	"config.Argv":       `a list (example: [whisper-server, --port, "${PORT}"])`,
	"map[string]string": "names and values (example: {HF_HOME: /srv/hf})",

	"[]models.Fallback": "a list (example: [{to: box2}, {to: openrouter, model: qwen/qwen-2.5-14b-instruct}])",
	"models.Fallback":   "a backend and the model's name there (example: {to: openrouter, model: qwen/qwen-2.5-14b-instruct})",
	"models.Billing":    "metered or free",
	"models.Parameters": "parameters and their values (example: {temperature: 0.2})",
}

// explainYAML turns the YAML library's errors into sentences for the operator: the
// file, the line, what is wrong and what would be right. It does not repeat values,
// since a key may have been pasted in the wrong place.
func explainYAML(path string, err error) error {
	text := err.Error()
	var typeErr *yaml.TypeError
	if errors.As(err, &typeErr) && len(typeErr.Errors) > 0 {
		text = typeErr.Errors[0]
	}
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: unknown key %s%s", path, m[1], QuoteSafe(m[2]), suggest(m[2], m[3]))
	}
	if m := duplicateKey.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: the key %s is there twice, first in line %s; keep one", path, m[1], quoteSafeKey(m[2]), m[3])
	}
	if m := wrongType.FindStringSubmatch(text); m != nil {
		want, ok := expected[m[2]]
		if !ok {
			want = "keys and values, indented below"
		}
		return fmt.Errorf("%s:%s: wrong kind of value; want %s", path, m[1], want)
	}
	if value, ok := errors.AsType[*models.ValueError](err); ok {
		return fmt.Errorf("%s:%d: wrong value; want %s", path, value.Line, value.Want)
	}
	text = quoted.ReplaceAllString(text, "$1$2")
	if m := lineAndMessage.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: this is not YAML: %s", path, m[1], m[2])
	}
	return fmt.Errorf("%s: this is not YAML: %s", path, strings.TrimPrefix(text, "yaml: "))
}

// quoteSafeKey is QuoteSafe for a key that the library has quoted.
func quoteSafeKey(quoted string) string {
	if key, err := strconv.Unquote(quoted); err == nil {
		return QuoteSafe(key)
	}
	return QuoteSafe(quoted)
}

// knownKeys are the keys of each type that a file is decoded into, by the type's name
// in the YAML library's errors.
var knownKeys = map[string][]string{
	"config.Config": yamlKeys(Config{}), "config.Server": append(yamlKeys(Server{}), yamlKeys(Command{})...), "config.Sleep": yamlKeys(Sleep{}),
	"models.Upstream": yamlKeys(models.Upstream{}), "config.GPU": yamlKeys(GPU{}),
	"models.Route": append(yamlKeys(models.Route{}), yamlKeys(models.Edits{})...), "models.Fallback": append(yamlKeys(models.Fallback{}), yamlKeys(models.Edits{})...),
	"config.ClientKey": yamlKeys(ClientKey{}), "config.Page": yamlKeys(Page{}), "certificate.Settings": yamlKeys(certificate.Settings{}), "fleet.Settings": yamlKeys(fleet.Settings{}),
	"config.Ledger": yamlKeys(Ledger{}), "config.Budget": append(yamlKeys(Limits{}), yamlKeys(Budget{})...), "config.Limits": yamlKeys(Limits{}), "config.ModelPrices": yamlKeys(ModelPrices{}),
}

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
