package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/llmsup/llmsup/supervisor/process"
)

// ErrNoBinary is wrapped by FindBinary's error when there is no llama-server.
var ErrNoBinary = errors.New("no llama-server")

// FindBinary returns the absolute path of the llama-server to run: path if it is
// given, else the one on PATH, else the one that scripts/llama-server.sh has put into
// the cache. It runs nothing.
func FindBinary(path string) (string, error) {
	if path != "" {
		return findNamed(path)
	}
	found, err := exec.LookPath("llama-server")
	if err == nil || errors.Is(err, exec.ErrDot) { // PATH has the folder on purpose
		return filepath.Abs(found)
	}
	cached := cachedBinary()
	if found, err = exec.LookPath(cached); err == nil {
		return filepath.Abs(found)
	}
	searched := "on PATH"
	if cached != "" {
		searched += " or at " + cached
	}
	how := "scripts/llama-server.sh gets one"
	if _, err := os.Stat(packagedInstaller); err == nil {
		how = "sudo " + packagedInstaller + " installs one"
	}
	return "", fmt.Errorf("%w %s; %s, or pass --llama-server FILE", ErrNoBinary, searched, how)
}

// packagedInstaller is there if a package of scripts/package.sh has installed llmsup.
const packagedInstaller = "/usr/lib/llmsup/scripts/service-llama-server.sh"

func findNamed(path string) (string, error) {
	found, err := exec.LookPath(path)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot): // it is named on purpose
		return filepath.Abs(found)
	case isDir(path):
		return "", fmt.Errorf("%w: %s is a folder; pass the program in it, as %s", ErrNoBinary, path, filepath.Join(path, "llama-server"))
	}
	return "", fmt.Errorf("%w that can be run at %s: %w; pass its path with --llama-server", ErrNoBinary, path, process.RootCause(err))
}

// cachedBinary returns where scripts/llama-server.sh puts llama-server; "" = the
// user has no cache folder.
func cachedBinary() string {
	cache := os.Getenv("LLMSUP_CACHE_DIR")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(dir, "llmsup")
	}
	return filepath.Join(cache, "llama-server", debianArch(runtime.GOARCH), "llama-server")
}

// debianArch returns Debian's name for one of Go's architectures.
func debianArch(goarch string) string {
	switch goarch {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "mips64le":
		return "mips64el"
	case "ppc64le":
		return "ppc64el"
	}
	return goarch // amd64, arm64, loong64, riscv64, s390x
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Version returns the line in which llama-server reports its build. The program
// does not see the environment variables named as secrets.
func Version(ctx context.Context, binary string, secrets []string) (string, error) {
	out, err := process.Output(ctx, binary, []string{"--version"}, environ(secrets))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "version:"); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return strings.TrimSpace(first), nil
}
