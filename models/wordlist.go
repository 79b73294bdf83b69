package models

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// WordList is a list of words without blanks. It is a string, so that a Route with one is
// comparable.
type WordList string

// NewWordList returns a list of words.
func NewWordList(words ...string) WordList { return WordList(strings.Join(words, " ")) }

// UnmarshalYAML reads a list of words.
func (l *WordList) UnmarshalYAML(node *yaml.Node) error {
	var words []string
	if err := node.Decode(&words); err != nil {
		return err
	}
	*l = NewWordList(words...)
	return nil
}

// Words returns the words in their order.
func (l WordList) Words() []string { return strings.Fields(string(l)) }

// Has reports whether a word is in the list.
func (l WordList) Has(word string) bool { return slices.Contains(l.Words(), word) }
