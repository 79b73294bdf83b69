package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lockedBuffer may be read while a process writes to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startScript starts a shell script, and waits until it has printed a line.
func startScript(t *testing.T, script string) (p *Process, firstLine string) {
	t.Helper()
	var out lockedBuffer
	p, err := Start(Command{Path: "/bin/sh", Args: []string{"-c", script}, Env: os.Environ()}, &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0, nil) })
	waitFor(t, "a line of output", func() bool { return strings.Contains(out.String(), "\n") })
	firstLine, _, _ = strings.Cut(out.String(), "\n")
	return p, firstLine
}

// TestGroupEndsWithItsLeader: what a wrapper script has started ends when the wrapper
// alone is killed.
func TestGroupEndsWithItsLeader(t *testing.T) {
	p, line := startScript(t, "sleep 300 & echo $!; wait")
	child, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if got := Group(p.PID()); len(got) != 2 || got[1] != child {
		t.Errorf("the group is %v, want %d and %d", got, p.PID(), child)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := p.Wait(); exit.Signal != "SIGKILL" || exit.Code != -1 || exit.At.IsZero() {
		t.Errorf("exit %+v", exit)
	}
	// init reaps the orphan when it can; here it counts that it was killed.
	waitFor(t, "the end of the group's other process", func() bool { return !runs(child) })
}

// TestStop: SIGTERM ends a process within its grace, and SIGKILL one that ignores
// SIGTERM, after its grace or as soon as it is forced.
func TestStop(t *testing.T) {
	const ignoring = "trap '' TERM; echo ready; while :; do sleep 300; done"
	forced := make(chan struct{})
	close(forced)
	for name, tc := range map[string]struct {
		script string
		grace  time.Duration
		force  chan struct{}
		signal string
	}{
		"ends by itself":            {"trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done", time.Hour, nil, ""},
		"ignores SIGTERM":           {ignoring, time.Millisecond, nil, "SIGKILL"},
		"ignores it, and is forced": {ignoring, time.Hour, forced, "SIGKILL"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := startScript(t, tc.script)
			p.Stop(tc.grace, tc.force)
			select {
			case <-p.Done():
			default:
				t.Error("Stop has returned, and Done is open")
			}
			if exit := p.Wait(); exit.Signal != tc.signal || tc.signal == "" && exit.Code != 3 {
				t.Errorf("exit %+v, want signal %q", exit, tc.signal)
			}
		})
	}
}

func TestOutput(t *testing.T) {
	for name, tc := range map[string]struct{ script, want, failure string }{
		"prints":         {"echo out; echo err >&2", "out\nerr\n", ""},
		"fails":          {"echo first; echo last; exit 7", "", "/bin/sh -c .*: exit status 7: last"},
		"fails silently": {"exit 7", "", "exit status 7"},
		"crashes":        {"kill -s SEGV $$", "", "ended by SIGSEGV"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Output(t.Context(), "/bin/sh", []string{"-c", tc.script}, os.Environ())
			if got != tc.want || (err == nil) != (tc.failure == "") {
				t.Fatalf("Output = %q, %v; want %q", got, err, tc.want)
			}
			var failed *CommandError
			if want := tc.failure[strings.LastIndex(tc.failure, "*")+1:]; err != nil && (!errors.As(err, &failed) || !strings.HasSuffix(err.Error(), want)) {
				t.Errorf("error %q, want a CommandError that ends in %q", err, want)
			}
		})
	}
}

// TestOutputLeavesNothing: a program that does not exit is killed with its group when
// the context ends.
func TestOutputLeavesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Output(ctx, "/bin/sh", []string{"-c", "sleep 300 & echo $! > " + file + ".new; mv " + file + ".new " + file + "; wait"}, os.Environ())
		done <- err
	}()
	var child int
	waitFor(t, "the child's pid", func() bool {
		raw, err := os.ReadFile(file)
		child, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
		return err == nil
	})
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	waitFor(t, "the child's end", func() bool { return !runs(child) })
}

func TestNoProgram(t *testing.T) {
	_, err := Start(Command{Path: "/nowhere/program"}, &bytes.Buffer{})
	if err == nil || err.Error() != "start /nowhere/program: no such file or directory" {
		t.Errorf("error %v", err)
	}
}
