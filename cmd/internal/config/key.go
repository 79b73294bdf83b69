package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// maxKey bounds a key, in bytes.
const maxKey = 4096

// Key reads an upstream's key. An upstream that names neither a variable nor a
// file needs none. missing says what to do when one is needed and there is
// none. No error repeats what was read.
func Key(u models.Upstream) (key, missing string, err error) {
	switch {
	case u.APIKeyEnv != "":
		key, missing = os.Getenv(u.APIKeyEnv), "set "+u.APIKeyEnv
	case u.APIKeyFile != "":
		missing = "put its key into " + u.APIKeyFile
		info, err := os.Stat(u.APIKeyFile)
		if errors.Is(err, os.ErrNotExist) {
			return "", missing, nil
		}
		if err == nil && !info.Mode().IsRegular() { // to open a named pipe would wait
			return "", "", fmt.Errorf("its key file %s is no regular file", u.APIKeyFile)
		}
		f, err := os.Open(u.APIKeyFile)
		if err != nil {
			return "", "", fmt.Errorf("read its key: %w", err)
		}
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, maxKey+1))
		if err != nil {
			return "", "", fmt.Errorf("read its key: %w", err)
		}
		key = string(raw)
	default:
		return "", "", nil
	}
	key = strings.TrimSpace(key)
	if key == "" {
		return "", missing, nil
	}
	if len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", "", fmt.Errorf("what stands in %s is no key: it is too long, or has white space or control characters in it", u.APIKeyEnv+u.APIKeyFile)
	}
	return key, "", nil
}

// KeyFileWarning says what is unsafe about an upstream's key file; "" if
// nothing is.
func KeyFileWarning(u models.Upstream) string {
	if u.APIKeyFile == "" {
		return ""
	}
	info, err := os.Stat(u.APIKeyFile)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("others can read its key; chmod 600 %s", u.APIKeyFile)
}

// KeyVariables names the environment variables that hold upstreams' keys: what
// no process that llmsup starts may see.
func (c *Config) KeyVariables() []string {
	var names []string
	for _, u := range c.Upstreams {
		if u.APIKeyEnv != "" {
			names = append(names, u.APIKeyEnv)
		}
	}
	return names
}
