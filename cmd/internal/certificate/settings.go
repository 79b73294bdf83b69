package certificate

import (
	"errors"
	"os"

	"github.com/llmsup/llmsup/cmd/internal/config/keyfile"
)

// Settings are the key `tls` of llmsup.yaml.
type Settings struct {
	CertFile string `yaml:"cert_file"` // PEM: the endpoint's certificate, then those that signed it
	KeyFile  string `yaml:"key_file"`  // PEM: its private key
}

// Enabled reports whether the endpoint is to speak HTTPS.
func (s Settings) Enabled() bool { return s != Settings{} }

// Validate returns an error about the value of a key below tls. It reads no file.
func (s Settings) Validate() (key string, err error) {
	if !s.Enabled() {
		return "", nil
	}
	for _, file := range []struct{ key, path, missing string }{
		{"cert_file", s.CertFile, "is missing; set the file with the certificate of key_file (PEM)"},
		{"key_file", s.KeyFile, "is missing; set the file with the private key of cert_file (PEM)"},
	} {
		if file.path == "" {
			return file.key, errors.New(file.missing)
		}
		if err := keyfile.Check(file.path); err != nil {
			return file.key, err
		}
	}
	return "", nil
}

// Warning returns a warning if all users can read the private key, else "". A group may: the key is
// often one of root's, which llmsup reads as a member of the key's group.
func (s Settings) Warning() string {
	path, err := keyfile.Path(s.KeyFile)
	if err != nil || path != s.KeyFile { // systemd protects credentials
		return ""
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		return "all users can read or change tls.key_file; chmod o= " + s.KeyFile
	}
	return ""
}
