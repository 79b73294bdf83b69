package fileedit

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// edit is a change of one section of a configuration file.
type edit struct {
	section string
	apply   func(*fileText) ([]byte, error) // changes the text
	want    func(entries map[string]any)    // makes the same change of the section's values
	check   func(*config.Config) error      // accepts the configuration with the change
}

// editFile applies an edit to the text of a configuration file. It returns an error unless
// both texts are valid and differ only in the section, as wanted.
func editFile(file string, raw []byte, e edit) ([]byte, *config.Config, error) {
	before, err := config.Parse(file, raw)
	if err != nil {
		return nil, nil, err
	}
	mark, text := []byte(nil), raw
	if bytes.HasPrefix(raw, []byte(byteOrderMark)) {
		mark, text = raw[:len(byteOrderMark)], raw[len(byteOrderMark):]
	}
	t, err := readText(text, e.section)
	if err != nil {
		return nil, nil, err
	}
	edited, err := e.apply(t)
	if err != nil {
		return nil, nil, err
	}
	edited = slices.Concat(mark, edited)
	after, err := config.Parse(file, edited)
	if err != nil || !sameAfter(raw, edited, e) {
		return nil, nil, errNotEditable
	}
	if err := e.check(after); err != nil && e.check(before) == nil {
		return nil, nil, fmt.Errorf("nothing was changed, because llmsup would reject the file: %w", err)
	}
	return edited, after, nil
}

// sameAfter reports whether two texts have the same values once the edit's change was made of
// the first.
func sameAfter(before, after []byte, e edit) bool {
	type values struct {
		Keys    map[string]any `yaml:"keys"`
		Servers map[string]any `yaml:"servers"`
		Rest    map[string]any `yaml:",inline"`
	}
	var was, is values
	if yaml.Unmarshal(before, &was) != nil || yaml.Unmarshal(after, &is) != nil {
		return false
	}
	entries := &was.Keys
	if e.section == serversSection {
		entries = &was.Servers
	}
	if *entries == nil {
		*entries = map[string]any{}
	}
	e.want(*entries)
	same := func(a, b map[string]any) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }
	return same(was.Keys, is.Keys) && same(was.Servers, is.Servers) && same(was.Rest, is.Rest)
}
