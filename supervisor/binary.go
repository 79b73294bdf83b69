package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ErrNoBinary is wrapped by FindBinary's error when no llama-server is there.
var ErrNoBinary = errors.New("no llama-server")

// probeTimeout bounds a run of llama-server that only prints something. A CUDA
// build looks at its GPUs even then.
const probeTimeout = 10 * time.Second

// FindBinary returns the absolute path of the llama-server to run: path where
// it is given, else the one on PATH, else the one that scripts/llama-server.sh
// has put into the cache. It runs nothing.
func FindBinary(path string) (string, error) {
	if path != "" {
		return findNamed(path)
	}
	found, err := exec.LookPath("llama-server")
	if err == nil || errors.Is(err, exec.ErrDot) { // PATH holds the folder on purpose
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
	return "", fmt.Errorf("%w %s; scripts/llama-server.sh gets one, or pass --llama-server FILE", ErrNoBinary, searched)
}

func findNamed(path string) (string, error) {
	found, err := exec.LookPath(path)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot): // it is named on purpose
		return filepath.Abs(found)
	case isDir(path):
		return "", fmt.Errorf("%w: %s is a folder; pass the program in it, as %s", ErrNoBinary, path, filepath.Join(path, "llama-server"))
	}
	return "", fmt.Errorf("%w that can be run at %s: %w; pass its path with --llama-server", ErrNoBinary, path, cause(err))
}

// cachedBinary is where scripts/llama-server.sh puts llama-server; "" = the
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

// debianArch returns Debian's name for an architecture of Go's.
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

// cause strips what exec and os put around a system error.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// Version returns the line in which llama-server says what build it is. It is
// run without the environment variables named as secrets.
func Version(ctx context.Context, binary string, secrets []string) (string, error) {
	out, err := output(ctx, binary, "--version", secrets)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "version:"); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return strings.TrimSpace(firstLine(out)), nil
}

// features is what one build of llama-server can do. Its options come and go
// between builds, so what is not asked for by the user is passed only where
// --help knows it.
type features struct {
	unixSocket bool // --host takes a socket's path
	ssePing    bool // --sse-ping-interval
	metrics    bool // --metrics

	httpThreads bool // --threads-http
}

func readFeatures(ctx context.Context, binary string, secrets []string) (features, error) {
	help, err := output(ctx, binary, "--help", secrets)
	if err != nil {
		return features{}, err
	}
	return parseFeatures(help), nil
}

func parseFeatures(help string) features {
	return features{
		// b4500 and older say nothing of it; newer ones mention it under --host.
		unixSocket: strings.Contains(strings.Join(strings.Fields(help), " "), "UNIX socket"),
		ssePing:    strings.Contains(help, "--sse-ping-interval"),
		metrics:    strings.Contains(help, "--metrics"),

		httpThreads: strings.Contains(help, "--threads-http"),
	}
}

// ranError is a run of llama-server that was to print something and did not.
type ranError struct {
	command string
	exit    Exit
	words   string // the last of what it printed
}

func (e *ranError) Error() string {
	how := fmt.Sprintf("exit status %d", e.exit.Code)
	if e.exit.Signal != "" {
		how = "ended by " + e.exit.Signal
	}
	if e.words != "" {
		how += ": " + e.words
	}
	return e.command + ": " + how
}

// maxPrinted bounds what is kept of what such a run prints, in bytes.
const maxPrinted = 1 << 20

// output runs llama-server with one flag and returns all that it printed. Like
// every process of llmsup's it has a group of its own, of which nothing is left.
func output(ctx context.Context, binary, flag string, secrets []string) (string, error) {
	var out bytes.Buffer
	p, err := launch(binary, []string{flag}, childEnv(os.Environ(), secrets), &limitedWriter{&out, maxPrinted})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	select {
	case <-p.done():
	case <-ctx.Done():
		p.stop(0, nil)
	}
	if exit := p.end(); exit.Code != 0 {
		return "", &ranError{binary + " " + flag, exit, lastLine(out.String())}
	}
	return out.String(), nil
}

// limitedWriter keeps the beginning of what is written to it.
type limitedWriter struct {
	to   *bytes.Buffer
	room int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	keep := p[:min(len(p), w.room)]
	w.room -= len(keep)
	w.to.Write(keep)
	return len(p), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
