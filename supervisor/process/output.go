package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// CommandError is returned by Output for a program that failed.
type CommandError struct {
	Command  string // the program and its arguments
	Exit     Exit
	LastLine string // of what it printed
}

// Error returns the command, how it ended and its last line.
func (e *CommandError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Exit.Code)
	if e.Exit.Signal != "" {
		how = "ended by " + e.Exit.Signal
	}
	if e.LastLine != "" {
		how += ": " + e.LastLine
	}
	return e.Command + ": " + how
}

const (
	// outputTimeout bounds the run. A CUDA build of llama-server examines its GPUs
	// even if it only prints its --help.
	outputTimeout = 10 * time.Second
	// maxOutput bounds what is kept of what the program prints, in bytes.
	maxOutput = 1 << 20
)

// Output runs a program that prints something and exits, and returns what it
// printed. Like every process of llmsup's it leads a group of its own, of which
// nothing is left afterwards.
func Output(ctx context.Context, path string, args, env []string) (string, error) {
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(ctx, outputTimeout)
	defer cancel()
	exit, err := Run(ctx, Command{Path: path, Args: args, Env: env}, &limitedWriter{&out, maxOutput})
	if err != nil {
		return "", err
	}
	if exit.Code != 0 {
		return "", &CommandError{strings.Join(append([]string{path}, args...), " "), exit, lastLine(out.String())}
	}
	return out.String(), nil
}

// Run runs a program until it or ctx ends, and returns how it ended.
func Run(ctx context.Context, command Command, output io.Writer) (Exit, error) {
	p, err := Start(command, output)
	if err != nil {
		return Exit{}, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(0, nil)
	}
	return p.Wait(), nil
}

// limitedWriter keeps the beginning of what is written to it.
type limitedWriter struct {
	to   *bytes.Buffer
	room int
}

// Write keeps as much of p as there is room for, and never fails.
func (w *limitedWriter) Write(p []byte) (int, error) {
	kept := p[:min(len(p), w.room)]
	w.room -= len(kept)
	w.to.Write(kept)
	return len(p), nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
