package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another process holds a lock.
var ErrLocked = errors.New("held by another process")

// LockStateDir locks a state directory for one daemon. The kernel releases the lock when
// the process ends, however it ends.
func LockStateDir(dir string) (release func(), err error) {
	if err := MakeDir(dir); err != nil {
		return nil, fmt.Errorf("state directory %s: %w; pass another one with --state-dir", dir, err)
	}
	release, holder, err := lockFile(filepath.Join(dir, "lock"))
	if errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("state directory %s is held by llmsup%s; stop it, or pass another one with --state-dir", dir, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w; pass another one with --state-dir", dir, err)
	}
	return release, nil
}

// lockFile locks a file, and writes this process's pid into it for the error message of
// the next one. holder is " (pid N)" of the process that has the lock. The file stays,
// since removing it would let two processes lock two files of the same name.
func lockFile(path string) (release func(), holder string, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, "", err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, "", fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, holderOf(f), ErrLocked
	}
	// The lock is valid without the pid, such as on a full disk.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { _ = f.Close() }, "", nil // closing the file releases the lock
}

func holderOf(f *os.File) string {
	text := make([]byte, 20)
	n, _ := f.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}
