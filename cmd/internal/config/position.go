package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// positions finds where in a file a value stands. The zero value finds nothing.
type positions struct {
	file string
	root *yaml.Node
}

// errorf makes an error about the value at a path of keys, such as "routes",
// "gpt-4o", "timeout". Where the file has no such value it goes by the longest
// part of the path that it has; where it has none of it, by the path alone.
func (l positions) errorf(path []string, format string, args ...any) error {
	return l.errorfFor(strings.Join(path, "."), path, format, args...)
}

// errorfFor is errorf for a path that has another one's name told: its own may
// be a secret that was pasted in the wrong place.
func (l positions) errorfFor(told string, path []string, format string, args ...any) error {
	err := fmt.Errorf("%s: %w", told, fmt.Errorf(format, args...))
	if line, _, _ := l.find(path); line > 0 {
		return fmt.Errorf("%s:%d: %w", l.file, line, err)
	}
	return err
}

// has says whether the file itself has a value at a path.
func (l positions) has(path ...string) bool {
	_, value, whole := l.find(path)
	return whole && value.Tag != "!!null" // a key without a value says nothing
}

// ifText returns l where the file has this very text at a path, and the zero
// value otherwise: what a flag has put there stands in no line of the file.
func (l positions) ifText(text string, path ...string) positions {
	if _, value, whole := l.find(path); whole && value.Kind == yaml.ScalarNode && value.Value == text {
		return l
	}
	return positions{}
}

// find returns the line of the longest part of a path that the file has, what
// stands there, and whether that is the whole path.
func (l positions) find(path []string) (line int, value *yaml.Node, whole bool) {
	if l.root == nil || len(l.root.Content) == 0 {
		return 0, nil, false
	}
	value = l.root.Content[0]
	for _, key := range path {
		keyNode, inner := child(value, key)
		if keyNode == nil {
			return line, value, false
		}
		line, value = keyNode.Line, inner
	}
	return line, value, true
}

// keys returns the keys of the mapping at a path, in the file's order. Keys that it
// merges (<<) are not among them.
func (l positions) keys(path ...string) []string {
	_, value, whole := l.find(path)
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

// child finds a key of a mapping, its own before those that it merges (<<), or an
// item of a sequence by its index.
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

// resolved is what an alias stands for.
func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}
