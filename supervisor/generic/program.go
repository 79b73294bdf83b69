package generic

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/llmsup/llmsup/supervisor/process"
)

// FindProgram returns the absolute path of the program that a command runs: it is searched
// on PATH if its name has no slash.
func FindProgram(name string) (string, error) {
	found, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot): // PATH has the folder on purpose
		return filepath.Abs(found)
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("the program %s is not on llmsup's PATH; install it, or write its whole path", name)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no program %s; install it, or correct the path", name)
	}
	return "", fmt.Errorf("the program %s cannot be run: %w", name, process.RootCause(err))
}

// IsContainer reports whether a command runs its engine in a container, which is not a
// child of the command and does not end with it.
func IsContainer(command []string) bool {
	if len(command) == 0 {
		return false
	}
	runtimes := []string{"docker", "podman", "nerdctl"}
	return slices.Contains(runtimes, filepath.Base(command[0])) && slices.Contains(command, "run")
}
