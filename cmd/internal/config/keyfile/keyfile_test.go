package keyfile

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
			key, missing, err := Read(u)
			if err != nil || key != c.key || (missing != "") != (c.missing != "") || !strings.Contains(missing, c.missing) {
				t.Errorf("key %q, missing %q, %v; want %q, %q", key, missing, err, c.key, c.missing)
			}
			if words := Warning(u); words != "" {
				t.Errorf("it warns: %s", words)
			}
		})
	}
}

func TestKey(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := filepath.Join(dir, "none")
	t.Setenv("LLMSUP_TEST_KEY", " sk-1 \n")
	t.Setenv("LLMSUP_TEST_EMPTY", " ")
	t.Setenv("LLMSUP_TEST_BAD", "sk-SECRET sk-SECRET")
	for name, tc := range map[string]struct {
		upstream     models.Upstream
		key, missing string
		bad          bool
	}{
		"none needed":       {},
		"a variable":        {upstream: models.Upstream{APIKeyEnv: "LLMSUP_TEST_KEY"}, key: "sk-1"},
		"an empty variable": {upstream: models.Upstream{APIKeyEnv: "LLMSUP_TEST_EMPTY"}, missing: "set LLMSUP_TEST_EMPTY"},
		"no variable":       {upstream: models.Upstream{APIKeyEnv: "LLMSUP_TEST_NONE"}, missing: "set LLMSUP_TEST_NONE"},
		"white space":       {upstream: models.Upstream{APIKeyEnv: "LLMSUP_TEST_BAD"}, bad: true},
		"a file":            {upstream: models.Upstream{APIKeyFile: file("a", "sk-2\r\n\n")}, key: "sk-2"},
		"an empty file":     {upstream: models.Upstream{APIKeyFile: file("b", "\n")}, missing: "put its key into " + filepath.Join(dir, "b")},
		"no file":           {upstream: models.Upstream{APIKeyFile: none}, missing: "put its key into " + none},
		"two lines":         {upstream: models.Upstream{APIKeyFile: file("c", "sk-SECRET\nsk-SECRET\n")}, bad: true},
		"control":           {upstream: models.Upstream{APIKeyFile: file("d", "sk-SECRET\x07x")}, bad: true},
		"not ASCII":         {upstream: models.Upstream{APIKeyFile: file("e", "sk-SECRETé")}, bad: true},
		"too long":          {upstream: models.Upstream{APIKeyFile: file("f", strings.Repeat("SECRET", 1000))}, bad: true},
		"a directory":       {upstream: models.Upstream{APIKeyFile: dir}, bad: true},
	} {
		key, missing, err := Read(tc.upstream)
		if key != tc.key || missing != tc.missing || (err != nil) != tc.bad {
			t.Errorf("%s: %q, %q, %v", name, key, missing, err)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the key is in the error: %v", name, err)
		}
	}
}

func TestWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o666: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got := Warning(models.Upstream{APIKeyFile: path}); (got != "") != warns {
			t.Errorf("%v: %q", mode, got)
		}
	}
	if got := Warning(models.Upstream{APIKeyFile: path + "x"}) + Warning(models.Upstream{}); got != "" {
		t.Errorf("without a file: %q", got)
	}
}
