// Package paths has the places of llmsup's files where neither llmsup.yaml nor a flag names
// them. Package config and the commands call it. It reads and creates no file.
package paths

import (
	"os"
	"path/filepath"
	"strconv"
)

// StateDir returns the directory for the daemon's state: systemd's
// StateDirectory, below /var/lib for root, else below the user's state directory.
func StateDir() string {
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 && dirs[0] != "" {
		return dirs[0]
	}
	if os.Geteuid() == 0 {
		return "/var/lib/llmsup"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "llmsup")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "llmsup")
	}
	return filepath.Join(userTempDir(), "state")
}

// ServiceControlSocket is the control socket of root's daemon and of the systemd unit.
const ServiceControlSocket = "/run/llmsup/" + controlName

// ServiceFile is the configuration file of the systemd unit.
const ServiceFile = "/etc/llmsup/llmsup.yaml"

const controlName = "control.sock"

// ControlSocket returns the path of the control socket: in systemd's
// RuntimeDirectory, below /run for root, else below the user's runtime directory.
func ControlSocket() string {
	if dirs := filepath.SplitList(os.Getenv("RUNTIME_DIRECTORY")); len(dirs) > 0 && dirs[0] != "" {
		return filepath.Join(dirs[0], controlName)
	}
	if os.Geteuid() == 0 {
		return ServiceControlSocket
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "llmsup", controlName)
	}
	return filepath.Join(userTempDir(), controlName)
}

// userTempDir returns a directory of this user, for machines without a login session.
// Its users create it with mode 0700, and reject one of another owner.
func userTempDir() string {
	return filepath.Join(os.TempDir(), "llmsup-"+strconv.Itoa(os.Geteuid()))
}
