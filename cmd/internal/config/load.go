package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/models"
)

// maxFile bounds a configuration file, in bytes. It is some thousand routes; the
// time that the YAML library takes goes with the square of their number.
const maxFile = 256 << 10

// Load reads llmsup.yaml over the defaults. A key that is unknown or stands
// twice, or a value of the wrong kind, is an error that names file and line. So
// is a file without any setting: it is more likely to be cut off than meant.
// What depends on flags is checked by Resolve.
func Load(path string) (*Config, error) {
	raw, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(path, raw)
	if err == nil && !c.positions.has() {
		return nil, fmt.Errorf("%s: the file has no settings; write {} to use the defaults", path)
	}
	return c, err
}

func ReadFile(path string) ([]byte, error) {
	// A named pipe would be waited for; one that a shell has made is in /dev.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() && !strings.HasPrefix(path, "/dev/") {
		return nil, fmt.Errorf("configuration %s: it is no regular file; pass another file with --config", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w; pass another file with --config", path, rootCause(err))
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w; pass another file with --config", path, rootCause(err))
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("configuration %s: it is over %d KiB; is that the right file?", path, maxFile>>10)
	}
	return raw, nil
}

func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func Parse(path string, raw []byte) (*Config, error) {
	c := Default()
	c.File = path
	built := c // its maps are replaced below, not written to
	c.Servers, c.Upstreams, c.Routes = nil, nil, nil

	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, explainYAML(path, err)
	}
	var more yaml.Node
	switch err := decoder.Decode(&more); {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: a second document begins; keep one", path, more.Line)
	case !errors.Is(err, io.EOF):
		return nil, explainYAML(path, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return nil, explainYAML(path, err)
	}
	c.positions = positions{file: path, root: &root}

	for name, server := range c.Servers {
		for _, field := range []string{"ctx_size", "n_gpu_layers"} {
			at := []string{"servers", name, field}
			if _, value, whole := c.positions.find(at); whole && value.Kind == yaml.ScalarNode && value.Tag != "!!null" && !wholeNumber.MatchString(value.Value) {
				return nil, c.positions.errorf(at, "wants a whole number")
			}
		}
		if server.CtxSize == 0 && !c.positions.has("servers", name, "ctx_size") {
			server.CtxSize = defaultServer().CtxSize
		}
		if server.NGPULayers == 0 && !c.positions.has("servers", name, "n_gpu_layers") {
			server.NGPULayers = defaultServer().NGPULayers
		}
		c.Servers[name] = server
	}
	c.Servers = overlay(map[string]Server{}, c.Servers)
	c.Upstreams = overlay(built.Upstreams, c.Upstreams)
	c.Routes = overlay(built.Routes, c.Routes)
	if err := c.validateLog(); err != nil { // the log begins before Resolve
		return nil, err
	}
	return &c, nil
}

var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// overlay puts a file's entries over the built-in ones, each of them whole.
func overlay[V any](under, over map[string]V) map[string]V {
	all := maps.Clone(under)
	maps.Copy(all, over)
	return all
}

var (
	unknownKey   = regexp.MustCompile(`^line (\d+): field (.+) not found in type (\S+)$`)
	duplicateKey   = regexp.MustCompile(`^line (\d+): mapping key (.+) already defined at line (\d+)$`)
	wrongType    = regexp.MustCompile(`(?s)^line (\d+): cannot unmarshal .* into (\S+)$`)
	lineAndMessage = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	repeated     = regexp.MustCompile("(?s)(anchor) '.*?'|(map key): .*|`.*` ") // what the library repeats of a file
)

// expected says in words what a Go type wants of a value.
var expected = map[string]string{
	"string": "one line of text", "int": "a whole number", "time.Duration": "a duration, as in 60s or 2m",
	"bool":     "true or false",
	"[]string": "a list, as in [--flash-attn, \"on\"]",

	"[]models.Fallback": "a list, as in [{to: box2}, {to: openrouter, model: qwen/qwen-2.5-14b-instruct}]",
	"models.Fallback":   "a backend and the model's name there, as in {to: openrouter, model: qwen/qwen-2.5-14b-instruct}",
	"models.Billing":    "metered or free",
}

// explainYAML turns the YAML library's errors into sentences for the operator: the
// file, the line, what is wrong there and what would be right. Values are not
// repeated: a key may have been pasted in the wrong place.
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
		return fmt.Errorf("%s:%s: the key %s stands twice, first in line %s; keep one", path, m[1], quoteSafeKey(m[2]), m[3])
	}
	if m := wrongType.FindStringSubmatch(text); m != nil {
		want, ok := expected[m[2]]
		if !ok {
			want = "keys and values, indented below"
		}
		return fmt.Errorf("%s:%s: wrong kind of value; want %s", path, m[1], want)
	}
	if value, ok := errors.AsType[*valueError](err); ok {
		return fmt.Errorf("%s:%d: wrong value; want %s", path, value.line, value.want)
	}
	text = repeated.ReplaceAllString(text, "$1$2")
	if m := lineAndMessage.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: this is not YAML: %s", path, m[1], m[2])
	}
	return fmt.Errorf("%s: this is not YAML: %s", path, strings.TrimPrefix(text, "yaml: "))
}

// quoteSafeKey is shown for a key that the library has quoted.
func quoteSafeKey(quoted string) string {
	if key, err := strconv.Unquote(quoted); err == nil {
		return QuoteSafe(key)
	}
	return QuoteSafe(quoted)
}

// knownKeys are the keys of each type that a file is decoded into, by the name
// that the YAML library has for it.
var knownKeys = map[string][]string{
	"config.Config": yamlKeys(Config{}), "config.Server": yamlKeys(Server{}),
	"models.Upstream": yamlKeys(models.Upstream{}), "models.Route": yamlKeys(models.Route{}), "models.Fallback": yamlKeys(models.Fallback{}), "config.GPU": yamlKeys(GPU{}),
	"config.ClientKey": yamlKeys(ClientKey{}),
	"config.Ledger":    yamlKeys(Ledger{}), "config.Budget": append(yamlKeys(Limits{}), yamlKeys(Budget{})...), "config.Limits": yamlKeys(Limits{}), "config.ModelPrices": yamlKeys(ModelPrices{}),
}
