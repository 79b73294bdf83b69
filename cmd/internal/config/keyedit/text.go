package keyedit

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// errNotEditable means that the file has its keys in a form that addKey and revokeKey do
// not edit: an alias, a merge, or a rare notation.
var errNotEditable = errors.New("the keys are written in a form that llmsup does not edit")

// keyText is the text of a configuration file, with the position of its keys. An edit
// inserts or cuts one range and keeps every other byte.
type keyText struct {
	raw  []byte // without a byte order mark
	ends []int  // where each line ends, its line break included
	root *yaml.Node
	name *yaml.Node // the word "keys"; nil = the file has none
	keys *yaml.Node // its value
}

// lineBreak matches what the YAML library counts as a line break.
var lineBreak = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

const byteOrderMark = "\uFEFF"

func readKeyText(raw []byte) (*keyText, error) {
	if !utf8.Valid(raw) {
		return nil, errNotEditable
	}
	t := &keyText{raw: raw}
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
		if name := t.root.Content[i]; name.Value == "keys" {
			t.name, t.keys = name, t.root.Content[i+1]
		}
	}
	return t, nil
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// add returns the text with a key.
func (t *keyText) add(name string, key config.ClientKey) ([]byte, error) {
	entry := key.Entry(name)
	switch {
	case t.root == nil, t.name == nil && t.root.Kind == yaml.MappingNode && !isFlow(t.root):
		indent := ""
		if t.root != nil {
			indent = strings.Repeat(" ", t.root.Column-1)
		}
		return t.insertLines(len(t.raw), indent+"keys:", indent+"  "+entry), nil
	case t.name == nil && t.root.Kind == yaml.MappingNode:
		return t.insertFlow(t.root, "keys: {"+entry+"}")
	case t.name == nil:
		return nil, errNotEditable
	case isNull(t.keys):
		return t.insertLines(t.ends[t.name.Line-1], strings.Repeat(" ", t.name.Column-1)+"  "+entry), nil
	case t.keys.Kind != yaml.MappingNode:
		return nil, errNotEditable
	case isFlow(t.keys):
		return t.insertFlow(t.keys, entry)
	}
	last := len(t.keys.Content)/2 - 1
	_, end, err := t.blockEntry(last)
	if err != nil {
		return nil, err
	}
	return t.insertLines(end, strings.Repeat(" ", t.keys.Content[2*last].Column-1)+entry), nil
}

// insertLines inserts whole lines. A file that ended with a line break still does.
func (t *keyText) insertLines(at int, lines ...string) []byte {
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

// revoke returns the text without a key: its entry, the comment lines directly
// above it, and those inside it.
func (t *keyText) revoke(name string) ([]byte, error) {
	if t.keys == nil || t.keys.Kind != yaml.MappingNode {
		return nil, errNotEditable
	}
	for i := 0; i+1 < len(t.keys.Content); i += 2 {
		if t.keys.Content[i].Value != name {
			continue
		}
		entry := t.blockEntry
		if isFlow(t.keys) {
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

func (t *keyText) replace(from, to int, text string) []byte {
	return bytes.Join([][]byte{t.raw[:from], t.raw[to:]}, []byte(text))
}

// blockEntry returns where the lines of a key in block style begin and end.
func (t *keyText) blockEntry(i int) (from, to int, err error) {
	key, value := t.keys.Content[2*i], t.keys.Content[2*i+1]
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
func (t *keyText) lineAt(offset int) int {
	n, _ := slices.BinarySearch(t.ends, offset+1)
	return min(n, len(t.ends)-1)
}

// commentsAbove returns where the comment lines begin that are directly above a line and
// have its indentation; without any, where the line begins.
func (t *keyText) commentsAbove(n int) int {
	indent := func(n int) string {
		return t.line(n)[:len(t.line(n))-len(strings.TrimLeft(t.line(n), " \t"))]
	}
	first := n
	for first > 0 && indent(first-1) == indent(n) && strings.HasPrefix(t.line(first - 1)[len(indent(n)):], "#") {
		first--
	}
	return t.begin(first)
}

func (t *keyText) begin(n int) int {
	if n == 0 {
		return 0
	}
	return t.ends[n-1]
}

func (t *keyText) line(n int) string { return string(t.raw[t.begin(n):t.ends[n]]) }

// offset is where a node begins. The library counts columns in characters.
func (t *keyText) offset(node *yaml.Node) int {
	at := t.begin(node.Line - 1)
	for range node.Column - 1 {
		_, size := utf8.DecodeRune(t.raw[at:])
		at += size
	}
	return at
}

// isFirst reports whether only spaces precede an offset in its line.
func (t *keyText) isFirst(at int) bool {
	return strings.Trim(string(t.raw[t.begin(t.lineAt(at)):at]), " \t") == ""
}

// editKeys applies an edit to the text of a configuration file. It returns an error
// unless both texts are valid and differ only in their keys, as want changes them.
func editKeys(file string, raw []byte, edit func(*keyText) ([]byte, error), want func(keys map[string]any)) ([]byte, *config.Config, error) {
	before, err := config.Parse(file, raw)
	if err != nil {
		return nil, nil, err
	}
	mark, text := []byte(nil), raw
	if bytes.HasPrefix(raw, []byte(byteOrderMark)) {
		mark, text = raw[:len(byteOrderMark)], raw[len(byteOrderMark):]
	}
	t, err := readKeyText(text)
	if err != nil {
		return nil, nil, err
	}
	edited, err := edit(t)
	if err != nil {
		return nil, nil, err
	}
	edited = slices.Concat(mark, edited)
	after, err := config.Parse(file, edited)
	if err != nil || !sameAfter(raw, edited, want) {
		return nil, nil, errNotEditable
	}
	if err := after.ValidateKeyUse(); err != nil && before.ValidateKeyUse() == nil {
		return nil, nil, fmt.Errorf("nothing was changed, because llmsup would reject the file: %w", err)
	}
	return edited, after, nil
}

// sameAfter reports whether two texts have the same values once want has changed the keys
// of the first.
func sameAfter(before, after []byte, want func(keys map[string]any)) bool {
	type values struct {
		Keys map[string]any `yaml:"keys"`
		Rest map[string]any `yaml:",inline"`
	}
	var was, is values
	if yaml.Unmarshal(before, &was) != nil || yaml.Unmarshal(after, &is) != nil {
		return false
	}
	if was.Keys == nil {
		was.Keys = map[string]any{}
	}
	want(was.Keys)
	same := func(a, b map[string]any) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }
	return same(was.Keys, is.Keys) && same(was.Rest, is.Rest)
}
