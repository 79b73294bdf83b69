package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
)

// TestCredential: a key that systemd passes, and the message without it.
func TestCredential(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"openrouter": "sk-or-1\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct{ dir, name, key, missing string }{
		"there":            {dir, "openrouter", "sk-or-1", ""},
		"empty":            {dir, "empty", "", "LoadCredential=empty:"},
		"none":             {dir, "other", "", "LoadCredential=other:"},
		"without systemd":  {"", "openrouter", "", "LoadCredential=openrouter:"},
		"a folder of none": {filepath.Join(dir, "gone"), "openrouter", "", "LoadCredential=openrouter:"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", c.dir)
			u := models.Upstream{APIKeyFile: "${CREDENTIALS_DIRECTORY}/" + c.name}
			key, missing, err := UpstreamKey(u)
			if err != nil || key != c.key || (missing != "") != (c.missing != "") || !strings.Contains(missing, c.missing) {
				t.Errorf("key %q, missing %q, %v; want %q, %q", key, missing, err, c.key, c.missing)
			}
			if words := KeyFileWarning(u); words != "" {
				t.Errorf("it warns: %s", words)
			}
		})
	}
}

func TestCheckKeyFile(t *testing.T) {
	for file, wrong := range map[string]string{
		"/etc/key":                               "",
		"./key":                                  "",
		"${CREDENTIALS_DIRECTORY}/openrouter":    "",
		"${CREDENTIALS_DIRECTORY}/":              "name of a credential",
		"${CREDENTIALS_DIRECTORY}/../openrouter": "name of a credential",
		"$CREDENTIALS_DIRECTORY/openrouter":      "can contain no variable but",
		"${HOME}/key":                            "can contain no variable but",
		"sk-or-1":                                "not the key itself",
	} {
		cfg, err := Parse("llmsup.yaml", []byte("upstreams:\n  x:\n    base_url: http://h/v1\n    api_key_file: "+file+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = cfg.Validate()
		if wrong == "" && err != nil || wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong) || !strings.HasPrefix(err.Error(), "llmsup.yaml:4: ")) {
			t.Errorf("%s: %v; want %q", file, err, wrong)
		}
	}
}
