package models

import (
	"bytes"
	_ "embed" // of the built-in table
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed builtin.yaml
var builtinYAML []byte

// Builtin has the upstreams, routes and model families that apply without a configuration.
type Builtin struct {
	Upstreams map[string]Upstream `yaml:"upstreams"`
	Routes    map[string]Route    `yaml:"routes"`
	Families  []Family            `yaml:"families"`
}

// Family is an open model that OpenRouter has as well, under a name of its own.
type Family struct {
	ShortName     string `yaml:"short_name"`     // the route local/<short name> leads to it
	Match         string `yaml:"match"`          // a regular expression over names in lower case
	FallbackModel string `yaml:"fallback_model"` // its name at OpenRouter
	Resume        bool   `yaml:"resume"`         // OpenRouter's model continues a final assistant message

	match *regexp.Regexp
}

// LoadBuiltin parses the embedded table. Each call returns new maps.
func LoadBuiltin() Builtin {
	var b Builtin
	decoder := yaml.NewDecoder(bytes.NewReader(builtinYAML))
	decoder.KnownFields(true)
	if err := decoder.Decode(&b); err != nil { // a test parses it, too
		panic(fmt.Sprintf("models: builtin.yaml: %v", err))
	}
	for i := range b.Families {
		b.Families[i].match = regexp.MustCompile(b.Families[i].Match)
	}
	return b
}

// FamilyOf returns the family of a server's model, found by the server's name or by the
// general.name of its GGUF, which may be "".
func (b Builtin) FamilyOf(serverName, headerName string) (Family, bool) {
	for _, name := range []string{serverName, headerName} {
		for _, family := range b.Families {
			if family.match.MatchString(strings.ToLower(name)) {
				return family, true
			}
		}
	}
	return Family{}, false
}
