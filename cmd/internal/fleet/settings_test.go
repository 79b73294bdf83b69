package fleet

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestValidate(t *testing.T) {
	const rest = ", advertise: http://gpu1:8000, key_file: /key"
	for name, tc := range map[string]struct{ text, key, want string }{
		"all":                   {"{nats: [nats://a:4222, tls://b], name: gpu1, ca_file: /ca, credentials_file: /c" + rest + "}", "", ""},
		"commas":                {"{nats: 'nats://a:4222, nats://b:4222'" + rest + "}", "", ""},
		"none":                  {"{}", "", ""},
		"no servers":            {"{name: a}", "nats", "is missing"},
		"an empty list":         {"{nats: []" + rest + "}", "nats", "is missing"},
		"an empty server":       {"{nats: ''" + rest + "}", "nats", "nats://HOST:PORT"},
		"no scheme":             {"{nats: 'a:4222'" + rest + "}", "nats", "nats://HOST:PORT"},
		"another scheme":        {"{nats: 'http://a:4222'" + rest + "}", "nats", "nats://HOST:PORT"},
		"a password":            {"{nats: 'nats://u:secret@a:4222'" + rest + "}", "nats", "credentials_file"},
		"a path":                {"{nats: 'nats://a:4222/x'" + rest + "}", "nats", "more than a host"},
		"a name with a dot":     {"{nats: nats://a, name: a.b" + rest + "}", "name", "63 letters"},
		"no address":            {"{nats: nats://a, name: a, key_file: /key}", "advertise", "is missing"},
		"an address with a key": {"{nats: nats://a, name: a, advertise: 'http://secret@a', key_file: /key}", "advertise", "is not a base URL"},
		"an address with /v1":   {"{nats: nats://a, name: a, advertise: 'http://a/v1', key_file: /key}", "advertise", "without a path"},
		"no key":                {"{nats: nats://a, name: a, advertise: 'http://a'}", "key_file", "openssl rand"},
	} {
		t.Run(name, func(t *testing.T) {
			var s Settings
			if err := yaml.Unmarshal([]byte(tc.text), &s); err != nil {
				t.Fatal(err)
			}
			key, err := s.Validate()
			switch {
			case tc.want == "" && err != nil || key != tc.key:
				t.Errorf("%s: %v", key, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret")):
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	var s Settings
	if err := yaml.Unmarshal([]byte("nats: 'nats://a , nats://b'"), &s); err != nil || !slices.Equal(s.NATS, []string{"nats://a", "nats://b"}) {
		t.Errorf("%v, %v", s.NATS, err)
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "fleet"), []byte(fleetKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ file, want string }{
		"a credential":   {"${CREDENTIALS_DIRECTORY}/fleet", ""},
		"a file":         {keyFile(t, fleetKey), ""},
		"a missing file": {filepath.Join(dir, "none"), "put the same key into this file on each box"},
		"a folder":       {dir, "is not a file"},
		"a short key":    {keyFile(t, "secret"), "under 32 characters"},
		"two words":      {keyFile(t, fleetKey+" secret"), "white space"},
		"a long file":    {keyFile(t, strings.Repeat("secret", 1000)), "at most 4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := Settings{KeyFile: tc.file}.readKey()
			switch {
			case tc.want == "" && (err != nil || string(key) != fleetKey):
				t.Errorf("%q, %v", key, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret")):
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	open := Settings{KeyFile: keyFile(t, fleetKey)}
	if warning := open.Warning(); warning != "" {
		t.Errorf("mode 0600: %s", warning)
	}
	before := open.Fingerprint()
	if err := os.Chmod(open.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if warning := open.Warning(); !strings.Contains(warning, "chmod 600 "+open.KeyFile) {
		t.Errorf("mode 0644: %q", warning)
	}
	if err := os.WriteFile(open.KeyFile, []byte(strings.Repeat("n", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if open.Fingerprint() == before {
		t.Error("another key has the same fingerprint")
	}
}
