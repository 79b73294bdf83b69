package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// maxKey bounds a key, in bytes.
const maxKey = 4096

// UpstreamKey reads an upstream's key. An upstream that names neither a variable nor a
// file needs none. missing says what to do when one is needed and there is
// none. No error repeats what was read.
func UpstreamKey(u models.Upstream) (key, missing string, err error) {
	switch {
	case u.APIKeyEnv != "":
		key, missing = os.Getenv(u.APIKeyEnv), "set "+u.APIKeyEnv
	case u.APIKeyFile != "":
		path := u.APIKeyFile
		missing = "put its key into " + path
		if name, is := credential(path); is {
			dir := os.Getenv(credentialsVariable)
			if missing = "give systemd its key: LoadCredential=" + name + ":... in llmsup.service says where it reads it, and systemctl restart llmsup has it read"; dir == "" {
				return "", missing, nil
			}
			path = filepath.Join(dir, name)
		}
		info, err := os.Stat(path) //nolint:gosec // the folder is named by systemd, or the file by the operator
		if errors.Is(err, os.ErrNotExist) {
			return "", missing, nil
		}
		if err == nil && !info.Mode().IsRegular() { // to open a named pipe would wait
			return "", "", fmt.Errorf("its key file %s is no regular file", path)
		}
		f, err := os.Open(path) //nolint:gosec // as above
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

// credentialsVariable names the folder in which systemd hands a service its
// credentials (systemd.exec(5)). It is the one variable that api_key_file knows,
// and only as its beginning.
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// credential says which of systemd's credentials an api_key_file means, if any.
func credential(file string) (name string, is bool) {
	return strings.CutPrefix(file, "${"+credentialsVariable+"}/")
}

// checkKeyFile says what is wrong with an api_key_file as it is written.
func checkKeyFile(file string) error {
	name, is := credential(file)
	switch {
	case is && !validName.MatchString(name):
		return errors.New("wants the name of a credential after ${" + credentialsVariable + "}/, as LoadCredential= has it")
	case !is && strings.Contains(file, "$"):
		return errors.New("knows no variable but ${" + credentialsVariable + "}, as in ${" + credentialsVariable + "}/openrouter")
	case !strings.Contains(file, "/"):
		return errors.New("wants the path of a file, with a slash in it, not the key itself")
	}
	return nil
}

// KeyFileWarning says what is unsafe about an upstream's key file; "" if
// nothing is.
func KeyFileWarning(u models.Upstream) string {
	if _, is := credential(u.APIKeyFile); is || u.APIKeyFile == "" { // systemd keeps credentials from others
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
