package fileedit

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// KeyEntry returns the line for a key under keys in llmsup.yaml, without indentation.
func KeyEntry(name string, k config.ClientKey) string {
	fields := []string{fmt.Sprintf("sha256: %q", k.SHA256)}
	if k.Routes != nil {
		routes := make([]string, len(k.Routes))
		for i, route := range k.Routes {
			routes[i] = yamlString(route)
		}
		fields = append(fields, "routes: ["+strings.Join(routes, ", ")+"]")
	}
	if k.FreeOnly != nil {
		fields = append(fields, fmt.Sprintf("free_only: %t", *k.FreeOnly))
	}
	if k.Operator {
		fields = append(fields, "operator: true")
	}
	return yamlString(name) + ": {" + strings.Join(fields, ", ") + "}"
}

var plainYAML = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)

// yamlString writes a string for YAML: "on", "null" and "123" need quotes.
func yamlString(s string) string {
	if plain, err := yaml.Marshal(s); err == nil && plainYAML.MatchString(s) && string(plain) == s+"\n" {
		return s
	}
	return strconv.Quote(s)
}
