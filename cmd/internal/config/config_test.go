package config

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"go.yaml.in/yaml/v3"
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
