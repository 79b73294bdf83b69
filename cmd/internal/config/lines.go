package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// lines finds where in a file a value stands. The zero value finds nothing.
type lines struct {
	file string
	root *yaml.Node
}

// errorf makes an error about the value at a path of keys, such as "routes",
// "gpt-4o", "timeout". Where the file has no such value it goes by the longest
// part of the path that it has; where it has none of it, by the path alone.
func (l lines) errorf(path []string, format string, args ...any) error {
	err := fmt.Errorf("%s: %w", strings.Join(path, "."), fmt.Errorf(format, args...))
	if line, _ := l.find(path); line > 0 {
		return fmt.Errorf("%s:%d: %w", l.file, line, err)
	}
	return err
}

// has says whether the file itself has a value at a path.
func (l lines) has(path ...string) bool {
	_, depth := l.find(path)
	return depth == len(path)
}

// find returns the line of the longest part of a path that the file has, and
// how many keys that is.
func (l lines) find(path []string) (line, depth int) {
	if l.root == nil || len(l.root.Content) == 0 {
		return 0, 0
	}
	node := l.root.Content[0]
	for _, key := range path {
		keyNode, value := child(node, key)
		if keyNode == nil {
			break
		}
		line, node = keyNode.Line, value
		depth++
	}
	return line, depth
}

func child(node *yaml.Node, key string) (k, v *yaml.Node) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}
