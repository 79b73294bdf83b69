// Package keyfile reads the API keys of upstreams, from the environment or from files, and finds
// other files with keys that llmsup.yaml names. It never writes a key, and no error contains one.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// maxKey limits the length of a key, in bytes.
const maxKey = 4096

// Read reads an upstream's key. An upstream that names neither a variable nor a
// file needs none. missing is what to do if a key is needed and there is none. No error
// contains what was read.
func Read(u models.Upstream) (key, missing string, err error) {
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
		info, err := os.Stat(path) //nolint:gosec // systemd names the directory, or the operator the file
		if errors.Is(err, os.ErrNotExist) {
			return "", missing, nil
		}
		if err == nil && !info.Mode().IsRegular() { // opening a named pipe would wait
			return "", "", fmt.Errorf("its key file %s is not a regular file", path)
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
		return "", "", fmt.Errorf("%s does not contain a valid key: it is too long, or has white space or control characters", u.APIKeyEnv+u.APIKeyFile)
	}
	return key, "", nil
}

// credentialsVariable names the directory in which systemd passes credentials to a
// service (systemd.exec(5)). It is the only variable in api_key_file, and only at its
// beginning.
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// credential returns the name of systemd's credential that an api_key_file refers to.
func credential(file string) (name string, is bool) {
	return strings.CutPrefix(file, "${"+credentialsVariable+"}/")
}

// Path returns the path of a file that llmsup.yaml names, which Check has accepted: it may be a
// credential of systemd.
func Path(file string) (string, error) {
	name, is := credential(file)
	if !is {
		return file, nil
	}
	dir := os.Getenv(credentialsVariable)
	if dir == "" {
		return "", fmt.Errorf("%s: systemd has passed no credentials; add LoadCredential=%s:... to llmsup.service", file, name)
	}
	return filepath.Join(dir, name), nil
}

// validCredential matches names of credentials.
var validCredential = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Check checks the value of api_key_file, without reading the file.
func Check(file string) error {
	name, is := credential(file)
	switch {
	case is && !validCredential.MatchString(name):
		return errors.New("needs the name of a credential after ${" + credentialsVariable + "}/, as in LoadCredential=")
	case !is && strings.Contains(file, "$"):
		return errors.New("can contain no variable but ${" + credentialsVariable + "} (example: ${" + credentialsVariable + "}/openrouter)")
	case !strings.Contains(file, "/"):
		return errors.New("takes the path of a file, with a slash, not the key itself")
	}
	return nil
}

// Warning returns a warning if others can read an upstream's key file, else "".
func Warning(u models.Upstream) string {
	if _, is := credential(u.APIKeyFile); is || u.APIKeyFile == "" { // systemd protects credentials
		return ""
	}
	info, err := os.Stat(u.APIKeyFile)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("others can read its key; chmod 600 %s", u.APIKeyFile)
}
