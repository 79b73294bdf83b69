package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoBinary is wrapped by FindBinary's error when no llama-server is there.
var ErrNoBinary = errors.New("no llama-server")

// probeTimeout bounds a run of llama-server that only prints something. A CUDA
// build looks at its GPUs even then.
const probeTimeout = 10 * time.Second

// FindBinary returns the absolute path of the llama-server to run: path where
// it is given, else the one on PATH. Nothing is run.
func FindBinary(path string) (string, error) {
	name := path
	if name == "" {
		name = "llama-server"
	}
	found, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil // named on purpose, or PATH holds the folder on purpose
	}
	switch {
	case err != nil && path == "":
		return "", fmt.Errorf("%w on PATH; install llama.cpp, or pass --llama-server FILE", ErrNoBinary)
	case err != nil && isDir(path):
		return "", fmt.Errorf("%w: %s is a folder; pass the program in it, as %s", ErrNoBinary, path, filepath.Join(path, "llama-server"))
	case err != nil:
		return "", fmt.Errorf("%w that can be run at %s: %w; pass its path with --llama-server", ErrNoBinary, path, cause(err))
	}
	return filepath.Abs(found)
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

// Version returns the line in which llama-server says what build it is.
func Version(ctx context.Context, binary string) (string, error) {
	out, err := output(ctx, binary, "--version")
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
}

func readFeatures(ctx context.Context, binary string) (features, error) {
	help, err := output(ctx, binary, "--help")
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
	}
}

// output runs llama-server with one flag and returns all that it printed.
func output(ctx context.Context, binary, flag string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, flag)
	cmd.WaitDelay = time.Second
	cmd.Env = childEnv(os.Environ(), nil)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if words := lastLine(out.String()); words != "" {
			return "", fmt.Errorf("%s %s: %w: %s", binary, flag, err, words)
		}
		return "", fmt.Errorf("%s %s: %w", binary, flag, err)
	}
	return out.String(), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
