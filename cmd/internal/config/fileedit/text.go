package fileedit

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// errNotEditable means that the file has a section in a form that this package does not edit:
// an alias, a merge, or a rare notation.
var errNotEditable = errors.New("written in a form that llmsup does not edit")

// fileText is the text of a configuration file, with the position of one section: a mapping
// such as `keys`. An edit inserts or cuts one range and keeps every other byte.
type fileText struct {
	section string
	raw     []byte // without a byte order mark
	ends    []int  // where each line ends, its line break included
	root    *yaml.Node
	name    *yaml.Node // the key of the section; nil = the file has none
	entries *yaml.Node // its value
}

// lineBreak matches what the YAML library counts as a line break.
var lineBreak = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

const byteOrderMark = "\uFEFF"

func readText(raw []byte, section string) (*fileText, error) {
	if !utf8.Valid(raw) {
		return nil, errNotEditable
	}
	t := &fileText{section: section, raw: raw}
	for _, at := range lineBreak.FindAllIndex(raw, -1) {
		t.ends = append(t.ends, at[1])
	}
	t.ends = append(t.ends, len(raw))
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 || isNull(doc.Content[0]) {
		return t, nil
	}
	t.root = doc.Content[0]
	for i := 0; i+1 < len(t.root.Content); i += 2 {
		if name := t.root.Content[i]; name.Value == section {
			t.name, t.entries = name, t.root.Content[i+1]
		}
	}
	return t, nil
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// add returns the text with an entry, which is written as flow in a flow mapping, and as the
// lines of block, without indentation, otherwise.
func (t *fileText) add(flow string, block ...string) ([]byte, error) {
	switch {
	case t.root == nil, t.name == nil && t.root.Kind == yaml.MappingNode && !isFlow(t.root):
		indent := ""
		if t.root != nil {
			indent = strings.Repeat(" ", t.root.Column-1)
		}
		return t.insertLines(len(t.raw), slices.Concat([]string{indent + t.section + ":"}, indented(indent+"  ", block))...), nil
	case t.name == nil && t.root.Kind == yaml.MappingNode:
		return t.insertFlow(t.root, t.section+": {"+flow+"}")
	case t.name == nil:
		return nil, errNotEditable
	case isNull(t.entries):
		return t.insertLines(t.ends[t.name.Line-1], indented(strings.Repeat(" ", t.name.Column+1), block)...), nil
	case t.entries.Kind != yaml.MappingNode:
		return nil, errNotEditable
	case isFlow(t.entries):
		return t.insertFlow(t.entries, flow)
	}
	last := len(t.entries.Content)/2 - 1
	_, end, err := t.blockEntry(last)
	if err != nil {
		return nil, err
	}
	return t.insertLines(end, indented(strings.Repeat(" ", t.entries.Content[2*last].Column-1), block)...), nil
}

func indented(indent string, lines []string) (all []string) {
	for _, line := range lines {
		all = append(all, indent+line)
	}
	return all
}

// insertLines inserts whole lines. A file that ended with a line break still does.
func (t *fileText) insertLines(at int, lines ...string) []byte {
	eol := "\n"
	if end := t.ends[0]; bytes.HasSuffix(t.raw[:end], []byte("\r\n")) {
		eol = "\r\n"
	}
	text := strings.Join(lines, eol)
	if at > 0 && !lineBreak.Match(t.raw[at-1:at]) {
		text = eol + text
	} else {
		text += eol
	}
	return t.replace(at, at, text)
}

// remove returns the text without an entry, the comment lines directly above it, and those
// inside it.
func (t *fileText) remove(name string) ([]byte, error) {
	if t.entries == nil || t.entries.Kind != yaml.MappingNode {
		return nil, errNotEditable
	}
	for i := 0; i+1 < len(t.entries.Content); i += 2 {
		if t.entries.Content[i].Value != name {
			continue
		}
		entry := t.blockEntry
		if isFlow(t.entries) {
			entry = t.flowEntry
		}
		from, to, err := entry(i / 2)
		if err != nil {
			return nil, err
		}
		return t.replace(from, to, ""), nil
	}
	return nil, errNotEditable // it comes from a merge
}

func (t *fileText) replace(from, to int, text string) []byte {
	return bytes.Join([][]byte{t.raw[:from], t.raw[to:]}, []byte(text))
}

// blockEntry returns where the lines of a key in block style begin and end.
func (t *fileText) blockEntry(i int) (from, to int, err error) {
	key, value := t.entries.Content[2*i], t.entries.Content[2*i+1]
	start := t.offset(key)
	if !t.isFirst(start) {
		return 0, 0, errNotEditable // "? key", an anchor or a tag
	}
	last := max(key.Line-1, t.lastFlowLine(value))
	for n := last + 1; n < len(t.ends); n++ {
		text := strings.TrimLeft(t.line(n), " ")
		indent := len(t.line(n)) - len(text)
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if indent >= key.Column {
			last = n
		} else if text[0] != '#' {
			break
		}
	}
	return t.commentsAbove(key.Line - 1), t.ends[last], nil
}

// lineAt returns the line of the byte at an offset.
func (t *fileText) lineAt(offset int) int {
	n, _ := slices.BinarySearch(t.ends, offset+1)
	return min(n, len(t.ends)-1)
}

// commentsAbove returns where the comment lines begin that are directly above a line and
// have its indentation; without any, where the line begins.
func (t *fileText) commentsAbove(n int) int {
	indent := func(n int) string {
		return t.line(n)[:len(t.line(n))-len(strings.TrimLeft(t.line(n), " \t"))]
	}
	first := n
	for first > 0 && indent(first-1) == indent(n) && strings.HasPrefix(t.line(first - 1)[len(indent(n)):], "#") {
		first--
	}
	return t.begin(first)
}

func (t *fileText) begin(n int) int {
	if n == 0 {
		return 0
	}
	return t.ends[n-1]
}

func (t *fileText) line(n int) string { return string(t.raw[t.begin(n):t.ends[n]]) }

// offset is where a node begins. The library counts columns in characters.
func (t *fileText) offset(node *yaml.Node) int {
	at := t.begin(node.Line - 1)
	for range node.Column - 1 {
		_, size := utf8.DecodeRune(t.raw[at:])
		at += size
	}
	return at
}

// isFirst reports whether only spaces precede an offset in its line.
func (t *fileText) isFirst(at int) bool {
	return strings.Trim(string(t.raw[t.begin(t.lineAt(at)):at]), " \t") == ""
}
