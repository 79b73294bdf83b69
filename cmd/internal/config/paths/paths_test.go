package paths

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestDefaults(t *testing.T) {
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
			if got := StateDir(); got != tc.state {
				t.Errorf("state directory %s, want %s", got, tc.state)
			}
			if got := ControlSocket(); got != tc.socket {
				t.Errorf("control socket %s, want %s", got, tc.socket)
			}
		})
	}
}
