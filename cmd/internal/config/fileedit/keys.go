package fileedit

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// keysSection is the section with the clients' keys.
const keysSection = "keys"

// List returns the clients' keys in a configuration file.
func List(path string) (map[string]config.ClientKey, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return c.Keys, c.ValidateKeys()
}

// Add adds a key to a configuration file.
func Add(path, name string, key config.ClientKey) error {
	_, err := rewrite(path, func(raw []byte) ([]byte, *config.Config, error) { return addKey(path, raw, name, key) })
	return err
}

func addKey(path string, raw []byte, name string, key config.ClientKey) ([]byte, *config.Config, error) {
	c, err := config.Parse(path, raw)
	if err != nil {
		return nil, nil, err
	}
	if _, taken := c.Keys[name]; taken {
		return nil, nil, c.ErrorAt([]string{"keys", name}, "there is a key of this name; choose another name, or revoke that key first (llmsup key revoke %s)", name)
	}
	text, after, err := editFile(path, raw, edit{
		section: keysSection, check: (*config.Config).ValidateKeyUse,
		apply: func(t *fileText) ([]byte, error) { line := KeyEntry(name, key); return t.add(line, line) },
		want:  func(keys map[string]any) { keys[name] = fields(key) },
	})
	if err == nil && !canRevoke(text, name) {
		err = errNotEditable
	}
	if errors.Is(err, errNotEditable) {
		err = fmt.Errorf("%s: the keys are %w; run llmsup key new without --add, and put its lines into the file by hand", path, err)
	}
	return text, after, err
}

// canRevoke reports whether revokeKey can remove a key from a text again.
func canRevoke(text []byte, name string) bool {
	t, err := readText(bytes.TrimPrefix(text, []byte(byteOrderMark)), keysSection)
	if err == nil {
		_, err = t.remove(name)
	}
	return err == nil
}

// fields returns a key as YAML decodes it without a type.
func fields(k config.ClientKey) map[string]any {
	fields := map[string]any{"sha256": k.SHA256}
	if k.Routes != nil {
		routes := make([]any, len(k.Routes))
		for i, route := range k.Routes {
			routes[i] = route
		}
		fields["routes"] = routes
	}
	if k.FreeOnly != nil {
		fields["free_only"] = *k.FreeOnly
	}
	if k.Operator {
		fields["operator"] = true
	}
	return fields
}

// Revoke removes a key from a configuration file, with the comments in it and directly
// above it. left is how many keys the file still has.
func Revoke(path, name string) (left int, err error) {
	after, err := rewrite(path, func(raw []byte) ([]byte, *config.Config, error) { return revokeKey(path, raw, name) })
	if err != nil {
		return 0, err
	}
	return len(after.Keys), nil
}

func revokeKey(path string, raw []byte, name string) ([]byte, *config.Config, error) {
	c, err := config.Parse(path, raw)
	if err != nil {
		return nil, nil, err
	}
	if _, there := c.Keys[name]; !there {
		names := "it has no keys"
		if len(c.Keys) > 0 {
			names = "there are " + strings.Join(slices.Sorted(maps.Keys(c.Keys)), ", ")
		}
		return nil, nil, fmt.Errorf("%s has no key %s; %s", path, config.QuoteSafe(name), names)
	}
	text, after, err := editFile(path, raw, edit{
		section: keysSection, check: (*config.Config).ValidateKeyUse,
		apply: func(t *fileText) ([]byte, error) { return t.remove(name) },
		want:  func(keys map[string]any) { delete(keys, name) },
	})
	if errors.Is(err, errNotEditable) {
		err = c.ErrorAt([]string{"keys", name}, "the keys are %w; remove it by hand", err)
	}
	return text, after, err
}
