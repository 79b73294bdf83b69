package fleet

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config/keyfile"
)

// Settings are the key `fleet` of llmsup.yaml.
type Settings struct {
	NATS            Servers `yaml:"nats"`
	CAFile          string  `yaml:"ca_file"`          // PEM; authorities of the NATS servers (alone) and of other boxes (with the system's); "" = the system's
	CredentialsFile string  `yaml:"credentials_file"` // a .creds file (JWT) or an nkey's seed; "" = the servers need none
	Name            string  `yaml:"name"`             // of this box; "" = the host's, up to its first dot
	Advertise       string  `yaml:"advertise"`        // base URL at which the other boxes reach this one
	KeyFile         string  `yaml:"key_file"`         // has the fleet's key
}

// Servers are the URLs of NATS servers.
type Servers []string

// UnmarshalYAML reads a list, or a text with commas, as the NATS clients take it.
func (s *Servers) UnmarshalYAML(node *yaml.Node) error {
	var list []string
	if node.Kind == yaml.SequenceNode {
		if err := node.Decode(&list); err != nil {
			return err
		}
	} else {
		var text string
		if err := node.Decode(&text); err != nil {
			return err
		}
		list = strings.Split(text, ",")
	}
	*s = nil
	for _, one := range list {
		*s = append(*s, strings.TrimSpace(one))
	}
	return nil
}

// Enabled reports whether the box is to join a fleet.
func (s Settings) Enabled() bool { return !reflect.ValueOf(s).IsZero() }

// Equal reports whether two Settings are the same.
func (s Settings) Equal(other Settings) bool { return reflect.DeepEqual(s, other) }

// validName matches names of boxes, which become part of subjects, headers and metrics.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// BoxName returns the name of this box.
func (s Settings) BoxName() string {
	if s.Name != "" {
		return s.Name
	}
	host, _ := os.Hostname() // "" is not a valid name
	short, _, _ := strings.Cut(host, ".")
	return short
}

// Validate returns an error about the value of a key below fleet. It reads no file.
func (s Settings) Validate() (key string, err error) {
	if !s.Enabled() {
		return "", nil
	}
	if len(s.NATS) == 0 {
		return "nats", errors.New("is missing; set the URLs of the fleet's NATS servers (example: nats://nats.internal:4222)")
	}
	for _, server := range s.NATS {
		if err := checkServer(server); err != nil {
			return "nats", err
		}
	}
	switch {
	case s.Name != "" && !validName.MatchString(s.Name):
		return "name", errors.New("a box's name has at most 63 letters, digits, dashes and underscores, and begins with a letter or a digit")
	case !validName.MatchString(s.BoxName()):
		return "name", fmt.Errorf("is missing, and the host's name %q cannot be a box's; set a name with letters, digits, dashes and underscores", s.BoxName())
	case s.Advertise == "":
		return "advertise", errors.New("is missing; set the base URL at which the other boxes reach this one (example: http://gpu1.internal:8000)")
	case !validAddress(s.Advertise):
		return "advertise", errors.New("is not a base URL without a path (example: http://gpu1.internal:8000)")
	case s.KeyFile == "":
		return "key_file", errors.New("is missing; make a key with \"openssl rand -hex 32\", and put the same one into a file on each box")
	}
	return "", nil
}

// checkServer does not repeat the URL, which may contain a password.
func checkServer(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "":
		return errors.New("has a server that is not nats://HOST:PORT or tls://HOST:PORT (example: nats://nats.internal:4222)")
	case u.User != nil:
		return errors.New("has a server with a user or a password; put an nkey's seed or a .creds file into credentials_file")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a server with more than a host and a port (example: nats://nats.internal:4222)")
	}
	return nil
}

// validAddress reports whether a text is a base URL without a path.
func validAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.RawQuery == "" &&
		u.Fragment == "" && strings.Trim(u.Path, "/") == "" && len(text) <= maxText && printable(text)
}

// The length of the fleet's key, in bytes.
const (
	minKey = 32
	maxKey = 4096
)

// readKey reads the fleet's key. No error contains it.
func (s Settings) readKey() (secret, error) {
	path, err := keyfile.Path(s.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the fleet's key: %w", err)
	}
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxKey) { // opening a named pipe would wait
		return nil, fmt.Errorf("the fleet's key %s is not a file of at most %d bytes", s.KeyFile, maxKey)
	}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read the fleet's key: %w; the user that runs llmsup has to read this file", err)
	case err != nil:
		return nil, fmt.Errorf("read the fleet's key: %w; put the same key into this file on each box", err)
	}
	key := strings.TrimSpace(string(raw))
	if len(key) < minKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("the fleet's key in %s has under %d characters, or white space; make one with \"openssl rand -hex 32\"", s.KeyFile, minKey)
	}
	return secret(key), nil
}

// Warning returns a warning if other users can read the fleet's key, else "".
func (s Settings) Warning() string {
	path, err := keyfile.Path(s.KeyFile)
	if err != nil || path != s.KeyFile { // systemd protects credentials
		return ""
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return "other users can read the fleet's key; chmod 600 " + s.KeyFile
	}
	return ""
}

// Fingerprint returns a value that changes if a file of the Settings gets another content.
func (s Settings) Fingerprint() [sha256.Size]byte {
	hash := sha256.New()
	for _, file := range []string{s.KeyFile, s.CredentialsFile, s.CAFile} {
		path, _ := keyfile.Path(file)
		raw, _ := os.ReadFile(path) // a file that cannot be read is as an empty one
		fmt.Fprintf(hash, "%d:%s", len(raw), raw)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// TLS returns the configuration of connections to boxes at https addresses: with CAFile, which
// may be that of the NATS servers' certificates, and the system's. nil = the default.
func (s Settings) TLS() (*tls.Config, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	path, err := keyfile.Path(s.CAFile)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read fleet.ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("fleet.ca_file %s has no certificate in PEM format", s.CAFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
