package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/models"
)

func TestDefaultPaths(t *testing.T) {
	root := os.Geteuid() == 0
	own := filepath.Join(os.TempDir(), "llmsup-"+strconv.Itoa(os.Geteuid()))
	forUser := func(asRoot, asUser string) string {
		if root {
			return asRoot
		}
		return asUser
	}
	for name, tc := range map[string]struct {
		env           map[string]string
		state, socket string
	}{
		"systemd": {
			map[string]string{"STATE_DIRECTORY": "/s/a:/s/b", "RUNTIME_DIRECTORY": "/r/a:/r/b", "XDG_RUNTIME_DIR": "/x"},
			"/s/a", "/r/a/control.sock",
		},
		"a session": {
			map[string]string{"XDG_STATE_HOME": "/xs", "XDG_RUNTIME_DIR": "/xr"},
			forUser("/var/lib/llmsup", "/xs/llmsup"), forUser("/run/llmsup/control.sock", "/xr/llmsup/control.sock"),
		},
		"a home": {
			map[string]string{"HOME": "/h"},
			forUser("/var/lib/llmsup", "/h/.local/state/llmsup"), forUser("/run/llmsup/control.sock", own+"/control.sock"),
		},
		"relative ones": {
			map[string]string{"HOME": "/h", "XDG_STATE_HOME": "xs", "XDG_RUNTIME_DIR": "xr"},
			forUser("/var/lib/llmsup", "/h/.local/state/llmsup"), forUser("/run/llmsup/control.sock", own+"/control.sock"),
		},
		"nothing": {nil, forUser("/var/lib/llmsup", own+"/state"), forUser("/run/llmsup/control.sock", own+"/control.sock")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, key := range []string{"STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HOME"} {
				t.Setenv(key, tc.env[key])
			}
			if got := DefaultStateDir(); got != tc.state {
				t.Errorf("state directory %s, want %s", got, tc.state)
			}
			if got := DefaultControlSocket(); got != tc.socket {
				t.Errorf("control socket %s, want %s", got, tc.socket)
			}
		})
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]ByteSize{
		"1": 1, "33554432": 32 << 20, "32MiB": 32 << 20, "10MB": 10_000_000, "10 mb": 10_000_000, "2gib": 2 << 30, "1KiB": 1024, "1kB": 1000, "7B": 7, "1024GiB": 1 << 40,
		"0": 0, "-1": 0, "": 0, "MiB": 0, "1.5MiB": 0, "32M": 0, "1025GiB": 0, "99999999999999999999": 0, "1e6": 0, "[1]": 0,
	} {
		var s ByteSize
		err := yaml.Unmarshal([]byte("max_body: "+text), &struct {
			MaxBody *ByteSize `yaml:"max_body"`
		}{&s})
		if text == "" {
			continue // null: as it was
		}
		if s != want || (err == nil) != (want > 0) {
			t.Errorf("%q = %d, %v; want %d", text, s, err, want)
		}
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
		key, missing, err := UpstreamKey(tc.upstream)
		if key != tc.key || missing != tc.missing || (err != nil) != tc.bad {
			t.Errorf("%s: %q, %q, %v", name, key, missing, err)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the key is in the error: %v", name, err)
		}
	}
}

func TestKeyFileWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o666: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got := KeyFileWarning(models.Upstream{APIKeyFile: path}); (got != "") != warns {
			t.Errorf("%v: %q", mode, got)
		}
	}
	if got := KeyFileWarning(models.Upstream{APIKeyFile: path + "x"}) + KeyFileWarning(models.Upstream{}); got != "" {
		t.Errorf("without a file: %q", got)
	}
}
