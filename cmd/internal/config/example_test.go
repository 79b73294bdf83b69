package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/generic"
)

const exampleFile = "../../../systemd/llmsup.yaml.example"

// defaultsElsewhere are the defaults that other packages apply to a setting that is not
// set.
var defaultsElsewhere = map[string]any{
	"servers.*.load_timeout":  supervisor.DefaultLoadTimeout,
	"servers.*.stall_timeout": supervisor.DefaultStallTimeout,
	"servers.*.health":        generic.DefaultHealth,
	"servers.*.base_path":     generic.DefaultBasePath,
}

// defaultLine is a line of the example that has a key at its default.
var defaultLine = regexp.MustCompile(`(?m)^( *)#([^ #\n])`)

// TestExample holds systemd/llmsup.yaml.example together with the configuration's
// types and defaults.
func TestExample(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/llmsup") // as systemd sets them for the service
	t.Setenv("RUNTIME_DIRECTORY", "/run/llmsup")
	raw, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	explicit := defaultLine.ReplaceAllString(text, "$1$2")
	c, full := loadExample(t, exampleFile, text), loadExample(t, exampleFile, explicit)

	var root yaml.Node
	if err := yaml.Unmarshal([]byte(explicit), &root); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	documented := map[string]bool{}
	for _, key := range exampleKeys(root.Content[0], reflect.TypeFor[Config](), nil, nil) {
		pattern := strings.Join(key.pattern, ".")
		line := lines[key.line-1]
		if strings.Contains(line, " # ") || strings.HasPrefix(strings.TrimSpace(lines[max(key.line-2, 0)]), "# ") {
			documented[pattern] = true
		}
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		was, is := valueAt(reflect.ValueOf(*c), key.path), valueAt(reflect.ValueOf(*full), key.path)
		if elsewhere, ok := defaultsElsewhere[pattern]; ok && was.IsZero() {
			was = reflect.ValueOf(elsewhere)
		}
		if !reflect.DeepEqual(was.Interface(), is.Interface()) {
			t.Errorf("%s:%d: the default of %s is %v, not %v", exampleFile, key.line, pattern, was, is)
		}
	}
	for _, pattern := range typeKeys(reflect.TypeFor[Config](), nil) {
		if !documented[pattern] {
			t.Errorf("%s has no line for %s, with a comment that explains it", exampleFile, pattern)
		}
	}
}

// The configuration in README.md is valid.
func TestReadme(t *testing.T) {
	blocks := yamlBlocks(t, "../../../README.md")
	if len(blocks) != 1 {
		t.Fatalf("README.md has %d configurations, want 1", len(blocks))
	}
	loadExample(t, "README.md", blocks[0])
}

// Each configuration in supervisor/ENGINES.md is valid.
// It has servers with a command only, and its containers can be stopped.
func TestEngines(t *testing.T) {
	blocks := yamlBlocks(t, "../../../supervisor/ENGINES.md")
	if len(blocks) < 8 {
		t.Fatalf("ENGINES.md has %d configurations", len(blocks))
	}
	for _, block := range blocks {
		c := loadExample(t, "ENGINES.md", block)
		if len(c.Servers) == 0 {
			t.Errorf("it has no server:\n%s", block)
		}
		for name, s := range c.Servers {
			has := func(argument string) bool { return slices.Contains(s.Argv, argument) }
			switch {
			case !s.IsCommand():
				t.Errorf("server %s has no command", name)
			case generic.IsContainer(s.Argv) && (!has("--rm") || !has("--name") || len(s.StopCommand) == 0):
				t.Errorf("server %s runs a container without --rm, --name or `stop_command`", name)
			}
		}
	}
}

// yamlBlocks returns the YAML in a Markdown file.
func yamlBlocks(t *testing.T, file string) (blocks []string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(raw), -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// loadExample loads the text of a file as llmsup does, and completes it. An unknown key is an error.
func loadExample(t *testing.T, from, text string) *Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "llmsup.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err == nil {
		err = c.Resolve(func(string) string { return "" })
	}
	if err != nil {
		t.Fatalf("%s: %v", from, err)
	}
	return c
}

// exampleKey is a key of a file: where it stands, and the path of keys that leads to it.
// In pattern, * stands for the keys of maps and the items of lists.
type exampleKey struct {
	path, pattern []string
	line          int
}

// exampleKeys returns the keys of a node that are fields of a type, and of those below.
func exampleKeys(node *yaml.Node, typ reflect.Type, path, pattern []string) (keys []exampleKey) {
	switch fields := fieldsOf(typ); {
	case fields != nil && node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			name := node.Content[i].Value
			path, pattern := append(slices.Clone(path), name), append(slices.Clone(pattern), name)
			keys = append(keys, exampleKey{path, pattern, node.Content[i].Line})
			keys = append(keys, exampleKeys(node.Content[i+1], fields[name].Type, path, pattern)...)
		}
	case hasEntries(typ):
		for i, entry := range node.Content {
			name := strconv.Itoa(i)
			if node.Kind == yaml.MappingNode {
				if i%2 == 0 {
					continue
				}
				name = node.Content[i-1].Value
			}
			keys = append(keys, exampleKeys(entry, typ.Elem(), append(slices.Clone(path), name), append(slices.Clone(pattern), "*"))...)
		}
	}
	return keys
}

// typeKeys returns the patterns of all keys that a type can be decoded from.
func typeKeys(typ reflect.Type, pattern []string) (patterns []string) {
	for name, field := range fieldsOf(typ) {
		below := append(slices.Clone(pattern), name)
		patterns = append(patterns, strings.Join(below, "."))
		patterns = append(patterns, typeKeys(field.Type, below)...)
	}
	if hasEntries(typ) {
		patterns = append(patterns, typeKeys(typ.Elem(), append(slices.Clone(pattern), "*"))...)
	}
	slices.Sort(patterns)
	return patterns
}

// fieldsOf returns the fields of a struct by their YAML keys, with those of inlined
// structs; nil for other types.
func fieldsOf(typ reflect.Type) map[string]reflect.StructField {
	if typ.Kind() != reflect.Struct {
		return nil
	}
	fields := map[string]reflect.StructField{}
	for _, field := range reflect.VisibleFields(typ) {
		if key, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); key != "" && key != "-" {
			fields[key] = field
		}
	}
	return fields
}

// hasEntries returns whether a type is a map, or a list of structs.
func hasEntries(typ reflect.Type) bool {
	return typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct
}

// valueAt returns the value at a path of YAML keys.
func valueAt(v reflect.Value, path []string) reflect.Value {
	for _, key := range path {
		switch v.Kind() {
		case reflect.Map:
			v = v.MapIndex(reflect.ValueOf(key))
		case reflect.Slice:
			i, _ := strconv.Atoi(key) // exampleKeys has made it
			v = v.Index(i)
		case reflect.Struct:
			v = v.FieldByIndex(fieldsOf(v.Type())[key].Index)
		default:
			panic(fmt.Sprintf("%s has no key %s", v.Type(), key))
		}
	}
	return v
}
