package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// positions finds the lines of values in a configuration file. The zero value finds
// nothing.
type positions struct {
	file   string
	root   *yaml.Node
	shared *Shared // its keys and routes are in place of the file's; nil = none
}

// of returns the positions of what is in use at a path.
func (p positions) of(path []string) positions {
	if len(path) > 0 && path[0] != "budget" && p.shared.Defines(path[0]) {
		return p.shared.config.positions
	}
	return p
}

// inFile reports whether the file itself has a section, be it in use or not.
func (p positions) inFile(section string) bool {
	p.shared = nil
	return p.has(section)
}

// errorf returns an error about the value at a path of keys, such as "routes",
// "gpt-4o", "timeout". It has the line of the longest part of the path that the file
// has, or no line.
func (p positions) errorf(path []string, format string, args ...any) error {
	return p.errorfFor(strings.Join(path, "."), path, format, args...)
}

// errorfFor is errorf with another name for the path, whose own may contain a secret
// that was pasted in the wrong place.
func (p positions) errorfFor(name string, path []string, format string, args ...any) error {
	err := fmt.Errorf("%s: %w", name, fmt.Errorf(format, args...))
	p = p.of(path)
	if line, _, _ := p.find(path); line > 0 {
		return fmt.Errorf("%s:%d: %w", p.file, line, err)
	}
	return err
}

// has reports whether the file has a value at a path.
func (p positions) has(path ...string) bool {
	_, value, whole := p.find(path)
	return whole && value.Tag != "!!null" // a key without a value is as none
}

// ifText returns p if the file has this very text at a path, and the zero value
// otherwise: a value that a flag has set is on no line of the file.
func (p positions) ifText(text string, path ...string) positions {
	if _, value, whole := p.find(path); whole && value.Kind == yaml.ScalarNode && value.Value == text {
		return p
	}
	return positions{}
}

// find returns the line of the longest part of a path that the file has, its value, and
// whether that is the whole path.
func (p positions) find(path []string) (line int, value *yaml.Node, whole bool) {
	p = p.of(path)
	if p.root == nil || len(p.root.Content) == 0 {
		return 0, nil, false
	}
	value = p.root.Content[0]
	for _, key := range path {
		keyNode, inner := child(value, key)
		if keyNode == nil {
			return line, value, false
		}
		line, value = keyNode.Line, inner
	}
	return line, value, true
}

// keys returns the keys of the mapping at a path, in the file's order, without those
// that it merges (<<).
func (p positions) keys(path ...string) []string {
	_, value, whole := p.find(path)
	if !whole {
		return nil
	}
	value = resolved(value)
	var keys []string
	for i := 0; i+1 < len(value.Content) && value.Kind == yaml.MappingNode; i += 2 {
		if key := value.Content[i]; key.Tag != "!!merge" {
			keys = append(keys, resolved(key).Value)
		}
	}
	return keys
}

// child finds a key of a mapping, with its own keys before those that it merges (<<), or
// an item of a sequence by its index.
func child(node *yaml.Node, key string) (k, v *yaml.Node) {
	node = resolved(node)
	if i, err := strconv.Atoi(key); err == nil && node.Kind == yaml.SequenceNode && 0 <= i && i < len(node.Content) {
		return node.Content[i], node.Content[i]
	}
	if node.Kind != yaml.MappingNode {
		return nil, nil
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		switch k, v := node.Content[i], resolved(node.Content[i+1]); {
		case k.Tag == "!!merge" && v.Kind == yaml.SequenceNode:
			merged = append(merged, v.Content...)
		case k.Tag == "!!merge":
			merged = append(merged, v)
		case resolved(k).Value == key:
			return k, v
		}
	}
	for _, other := range merged {
		if k, v := child(other, key); k != nil {
			return k, v
		}
	}
	return nil, nil
}

// resolved returns the node that an alias refers to.
func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// ErrorAt returns an error about the value at a path of keys, with its file and line.
func (c *Config) ErrorAt(path []string, format string, args ...any) error {
	return c.positions.errorf(path, format, args...)
}
