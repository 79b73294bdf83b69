// Package keyedit adds clients' keys to a configuration file, and removes them. It
// changes the text of the file in one place and keeps every other byte. llmsup key calls
// it. It never decides what a valid configuration is, which package config does, and
// never stores a key, only its hash.
package keyedit

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

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
	text, after, err := editKeys(path, raw, func(t *keyText) ([]byte, error) { return t.add(name, key) }, func(keys map[string]any) {
		keys[name] = fields(key)
	})
	if err == nil && !canRevoke(text, name) {
		err = errNotEditable
	}
	if errors.Is(err, errNotEditable) {
		err = fmt.Errorf("%s: %w; run llmsup key new without --add, and put its lines into the file by hand", path, err)
	}
	return text, after, err
}

// canRevoke reports whether revokeKey can remove a key from a text again.
func canRevoke(text []byte, name string) bool {
	t, err := readKeyText(bytes.TrimPrefix(text, []byte(byteOrderMark)))
	if err == nil {
		_, err = t.revoke(name)
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
	text, after, err := editKeys(path, raw, func(t *keyText) ([]byte, error) { return t.revoke(name) }, func(keys map[string]any) {
		delete(keys, name)
	})
	if errors.Is(err, errNotEditable) {
		err = c.ErrorAt([]string{"keys", name}, "%w; remove it by hand", err)
	}
	return text, after, err
}

// rewrite replaces a configuration file with what edit makes of it, atomically and with
// the same mode and owner. A symbolic link stays one. Simultaneous edits wait for each
// other.
func rewrite(path string, edit func(raw []byte) ([]byte, *config.Config, error)) (*config.Config, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, config.FileError(path, err)
	}
	if dir, err := os.Open(filepath.Dir(target)); err == nil {
		defer dir.Close()
		_ = unix.Flock(int(dir.Fd()), unix.LOCK_EX) // some file systems have no locks
	}
	raw, err := config.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(target)
	if err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("configuration %s: it is not a regular file; pass another file with --config", path)
	}
	text, after, err := edit(raw)
	if err != nil {
		return nil, err
	}
	if err := replaceFile(target, info, text); err != nil {
		if cause, ok := errors.AsType[syscall.Errno](err); ok {
			err = cause
		}
		return nil, fmt.Errorf("configuration %s can't be written: %w; nothing was changed; run the command as the owner of the file and its folder", path, err)
	}
	return after, nil
}

func replaceFile(path string, was os.FileInfo, text []byte) error {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // after the replacement the temporary file no longer exists
	if stat, ok := was.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(was.Mode().Perm()); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
