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

// ErrHeld says that another process holds a lock.
var ErrHeld = errors.New("held by another process")

// LockStateDir makes a daemon the only one on a state directory. The lock is
// the kernel's, so it ends with the process, however that ends.
func LockStateDir(dir string) (release func(), err error) {
	if err := MakeDir(dir); err != nil {
		return nil, fmt.Errorf("state directory %s: %w; pass another one with --state-dir", dir, err)
	}
	release, holder, err := lockFile(filepath.Join(dir, "lock"))
	if errors.Is(err, ErrHeld) {
		return nil, fmt.Errorf("state directory %s is held by llmsup%s; stop it, or pass another one with --state-dir", dir, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w; pass another one with --state-dir", dir, err)
	}
	return release, nil
}

// lockFile takes the lock on a file, and writes this process's pid into it for
// whoever comes second. holder is " (pid N)" of the one who has it. The file
// stays: removing it would let two processes lock two files of one name.
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
		return nil, holderOf(f), ErrHeld
	}
	// The lock holds without the pid in it, as on a full disk.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { _ = f.Close() }, "", nil // closing gives the lock back
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
