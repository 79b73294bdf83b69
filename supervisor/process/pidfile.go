package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// pidFile is what a server's folder says about the process that runs for it, so
// that the next llmsup can kill one that outlived the last. A pid alone does not
// identify a process, because the kernel reuses it; pid, start time and boot
// together do.
type pidFile struct {
	PID       int    `json:"pid"`        // of the process, and of its group
	StartTime uint64 `json:"start_time"` // in clock ticks since boot
	BootID    string `json:"boot_id"`
	Token     string `json:"mark"` // in the environment of the whole group

	Stop []string `json:"stop,omitempty"` // a command that ends what the program has started elsewhere
	Port string   `json:"port,omitempty"` // where the program listens; "" = on a socket
}

const (
	pidFileName = "process.json"
	// ChildVariable is the environment variable that holds the token. Processes
	// inherit it, so llmsup recognises those that a wrapper script started.
	ChildVariable = "LLMSUP_CHILD"
)

// WritePIDFile writes the pid file of a process that was just started.
func WritePIDFile(dir string, pid int, command Command) error {
	return pidFile{PID: pid, StartTime: startTime(pid), BootID: bootID(), Token: command.Token, Stop: command.Stop, Port: command.Port}.write(dir)
}

func (f pidFile) write(dir string) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	// The new file is made in dir: renameio would first try whether $TMPDIR will do.
	return renameio.WriteFile(filepath.Join(dir, pidFileName), raw, 0o600, renameio.WithTempDir(dir))
}

// RemovePIDFile removes the pid file of a process that has ended.
func RemovePIDFile(dir string) { _ = os.Remove(filepath.Join(dir, pidFileName)) }

// stopTimeout is how long a command may take that stops what an earlier llmsup has left.
const stopTimeout = 15 * time.Second

// killTimeout is how long a killed process may take to end. Releasing gigabytes
// of memory takes the kernel a while.
const killTimeout = 10 * time.Second

// KillOrphans kills what an earlier llmsup has left running, including processes
// of servers that are no longer configured: dir has a folder for each server. The
// daemon calls it once it has locked the state directory, before it starts any server.
// environ returns the environment for the command that stops a server's program on a port,
// which the pid file does not have: it may contain secrets.
func KillOrphans(dir string, environ func(server, port string) []string, log zerolog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error().Err(err).Msg("cannot look for processes that an earlier llmsup may have left running; check with ps, and kill them")
	}
	for _, entry := range entries {
		killed, err := killOrphan(filepath.Join(dir, entry.Name()), func(port string) []string { return environ(entry.Name(), port) })
		if err != nil {
			log.Error().Err(err).Str("server", entry.Name()).Msg("cannot kill a process that an earlier llmsup left running; it may hold VRAM")
		}
		if killed > 0 {
			log.Warn().Int("processes", killed).Str("server", entry.Name()).Msg("killed the server that an earlier llmsup left running")
		}
	}
}

// killOrphan kills the group that the pid file in a folder names, the processes with its
// token, and what its command stops, and nothing else. It returns how many processes it killed. The caller holds the lock on
// the state directory, so no running llmsup owns the pid file.
func killOrphan(dir string, environ func(port string) []string) (killed int, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, pidFileName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer RemovePIDFile(dir)
	var f pidFile
	if json.Unmarshal(raw, &f) != nil || f.PID <= 1 || f.BootID != bootID() {
		return 0, nil // of an earlier boot, or not written by llmsup
	}
	if len(f.Stop) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		_, _ = Run(ctx, Command{Path: f.Stop[0], Args: f.Stop[1:], Env: environ(f.Port)}, io.Discard) // it may have ended already
	}
	for _, pid := range append(Group(f.PID), marked(f.Token)...) {
		ended, err := f.kill(pid)
		if err != nil {
			return killed, fmt.Errorf("kill orphaned process %d: %w", pid, err)
		}
		if ended {
			killed++
		}
	}
	return killed, nil
}

// kill kills a process if the pid file identifies it, and waits until it has
// ended. It opens the pidfd before it checks, so that the signal cannot reach
// another process that got the same pid in between.
func (f pidFile) kill(pid int) (ended bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil //nolint:nilerr // there is no such process
	}
	defer unix.Close(fd)
	if !f.owns(pid) {
		return false, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, err
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(killTimeout); time.Now().Before(deadline); {
		n, err := unix.Poll(poll, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, fmt.Errorf("it has not ended %s after SIGKILL", killTimeout)
}

// owns reports whether a process is the one that the pid file describes, or one of
// its group with the token in its environment.
func (f pidFile) owns(pid int) bool {
	if pid == f.PID && f.StartTime != 0 && startTime(pid) == f.StartTime {
		return true
	}
	if f.Token == "" {
		return false
	}
	return hasToken(pid, f.Token)
}

// startTime returns when a process was started, in clock ticks since boot; 0 =
// there is no such process.
func startTime(pid int) uint64 { return stat(pid).Starttime }

// bootID identifies the present boot of the machine. procfs does not have it.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
