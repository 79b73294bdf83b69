package fleetconfig

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// Extract returns the sections that a fleet can define from the text of a file in the form of
// llmsup.yaml, with their comments. Call config.ParseShared first. A text that may be a secret
// is an error: all boxes would get it, and keep it.
func Extract(path string, raw []byte) (string, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return "", err // config.ParseShared explains it
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return "", fmt.Errorf("%s has no settings", path)
	}
	sections := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(root.Content[0].Content); i += 2 {
		key, value := root.Content[0].Content[i], root.Content[0].Content[i+1]
		if !slices.Contains(config.SharedSections, key.Value) || value.Tag == "!!null" {
			continue
		}
		sections.Content = append(sections.Content, inlined(key), inlined(value))
	}
	if line := secretLine(sections); line > 0 {
		return "", fmt.Errorf("%s:%d: this may be a secret, and every box would get it; `keys` has only hashes of keys, and the keys of upstreams stay on each box", path, line)
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	err := encoder.Encode(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{sections}})
	if err == nil {
		err = encoder.Close()
	}
	return pulledLines.ReplaceAllString(text.String(), ""), err
}

// pulledLines are the lines that llmsup fleet pull writes before the sections. A push does not send
// them back: they would name an old version.
var pulledLines = regexp.MustCompile(`\A(# version \d+, which .*\n\n?)+`)

// inlined returns a copy of a node in which aliases are replaced by what they refer to: that
// may be in a section which is not part of the document.
func inlined(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	c := *n
	c.Anchor, c.Content = "", nil
	if c.Tag == "!!null" && c.Value == "" { // the library would write a text
		c.Value = "null"
	}
	for _, inner := range n.Content {
		c.Content = append(c.Content, inlined(inner))
	}
	return &c
}

// secret matches keys of well-known services, of llmsup and of NATS.
var secret = regexp.MustCompile(`\b(sk-|sk_|gsk_|hf_|xai-|nvapi-|ghp_|github_pat_|AKIA)[A-Za-z0-9_-]{16,}` +
	`|\bllmsup-[A-Z2-7]{20,}|\bS[UAONC][A-Z2-7]{54,}\b|BEGIN [A-Z ]*(PRIVATE KEY|SEED|JWT)|(?i:bearer) +[A-Za-z0-9._-]{16,}`)

// secretLine returns a line with a text that may be a secret; 0 = there is none.
func secretLine(n *yaml.Node) int {
	if n.Kind != yaml.MappingNode && secret.MatchString(n.Value) {
		return n.Line
	}
	if secret.MatchString(strings.Join([]string{n.HeadComment, n.LineComment, n.FootComment}, "\n")) {
		return max(n.Line, 1)
	}
	for _, inner := range n.Content {
		if line := secretLine(inner); line > 0 {
			return line
		}
	}
	return 0
}
