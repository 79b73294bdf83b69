package fileedit

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// This file edits YAML's flow style, such as {a: [b, c]}.

func isFlow(node *yaml.Node) bool { return node.Style&yaml.FlowStyle != 0 }

// insertFlow inserts an entry at the end of a mapping such as {a: 1, b: 2}.
func (t *fileText) insertFlow(mapping *yaml.Node, entry string) ([]byte, error) {
	if len(mapping.Content) == 0 {
		start := t.offset(mapping)
		open := bytes.IndexByte(t.raw[start:], '{')
		if open < 0 {
			return nil, errNotEditable
		}
		return t.replace(start+open+1, start+open+1, entry), nil
	}
	end, next := t.flowEnd(t.offset(mapping.Content[len(mapping.Content)-2]))
	if next == len(t.raw) {
		return nil, errNotEditable
	}
	if t.raw[next] == ',' {
		return t.replace(next+1, next+1, " "+entry), nil
	}
	return t.replace(end, end, ", "+entry), nil
}

// flowEntry returns where a key of a mapping such as {a: 1, b: 2} begins and ends, with
// the comma that goes with it.
func (t *fileText) flowEntry(i int) (from, to int, err error) {
	from = t.offset(t.entries.Content[2*i])
	to, next := t.flowEnd(from)
	if next == len(t.raw) {
		return 0, 0, errNotEditable
	}
	if t.raw[next] == ',' {
		to = next + 1
	}
	rest := len(t.raw[to:]) - len(bytes.TrimLeft(t.raw[to:], " \t"))
	endsLine := lineBreak.Match(t.raw[to+rest:min(to+rest+1, len(t.raw))]) || bytes.HasPrefix(t.raw[to+rest:], []byte("#"))
	if t.isFirst(from) && endsLine {
		return t.commentsAbove(t.lineAt(from)), t.ends[t.lineAt(to)], nil
	}
	switch {
	case t.raw[next] == ',' && !endsLine:
		to += rest
	case i > 0 && !t.isFirst(from): // the comma before it goes, and any after it stays
		from, _ = t.flowEnd(t.offset(t.entries.Content[2*i-2]))
		to = min(to, next)
	}
	return from, to, nil
}

// flowEnd returns the end of the value in flow style (or of the key and its value) that
// begins at an offset, and the position of the comma or bracket that follows it in the
// collection around it; len(raw) = none.
func (t *fileText) flowEnd(at int) (end, next int) {
	depth, separated := 0, true // separated: a quote may begin here
	closed := false             // the value was a collection, and has ended
	for i := at; i < len(t.raw); i++ {
		c := t.raw[i]
		switch {
		case c == '#' && (i == 0 || bytes.IndexByte([]byte(" \t\r\n"), t.raw[i-1]) >= 0):
			i = t.ends[t.lineAt(i)] - 1
			continue
		case strings.IndexByte(" \t\r\n", c) >= 0:
			separated = true
			continue
		case (c == '"' || c == '\'') && separated && !closed:
			i = t.quoteEnd(i)
		case depth == 0 && strings.IndexByte(",}]", c) >= 0:
			return end, i
		case closed && c != ':': // in block style: the next line
			return end, len(t.raw)
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		closed = depth == 0 && strings.IndexByte("}]", c) >= 0
		separated = strings.IndexByte("{[,:", c) >= 0
		end = i + 1
	}
	return end, len(t.raw)
}

// quoteEnd returns the end of the quote that begins at an offset.
func (t *fileText) quoteEnd(at int) int {
	quote := t.raw[at]
	for i := at + 1; i < len(t.raw); i++ {
		switch {
		case t.raw[i] == '\\' && quote == '"':
			i++
		case t.raw[i] == quote && quote == '\'' && i+1 < len(t.raw) && t.raw[i+1] == quote:
			i++
		case t.raw[i] == quote:
			return i
		}
	}
	return len(t.raw) - 1
}

// lastFlowLine returns the line in which the last flow collection of a value ends: its
// bracket may be further to the left than the key.
func (t *fileText) lastFlowLine(node *yaml.Node) int {
	if node.Kind == yaml.AliasNode || len(node.Content) == 0 {
		return 0
	}
	if isFlow(node) {
		end, _ := t.flowEnd(t.offset(node))
		return t.lineAt(end - 1)
	}
	last := 0
	for _, child := range node.Content {
		last = max(last, t.lastFlowLine(child))
	}
	return last
}
