package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MakeDir creates a directory for this user only, if there is none. In the directory for
// temporary files, where any user could have created it first, all directories on its
// path must belong to this user: the owner of one of them could replace the daemon's
// sockets.
func MakeDir(dir string) error {
	if err := checkOwnership(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkOwnership(dir)
}

// checkOwnership checks every existing directory between the one for temporary files and
// dir.
func checkOwnership(dir string) error {
	temp := filepath.Clean(os.TempDir())
	below, ok := strings.CutPrefix(filepath.Clean(dir), temp+"/")
	if !ok {
		return nil
	}
	at := temp
	for name := range strings.SplitSeq(below, "/") {
		at = filepath.Join(at, name)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() && stat.Uid != 0 {
			return fmt.Errorf("%s belongs to another user", at)
		}
	}
	return nil
}

// CheckStateDir returns why a daemon could not use a state directory. It changes nothing.
func CheckStateDir(dir string) error {
	if err := canLock(dir, "lock"); err != nil {
		return fmt.Errorf("state directory %s: %w; pass another one with --state-dir", dir, err)
	}
	return nil
}

// CheckSocket returns why a daemon could not use a control socket. It changes nothing.
func CheckSocket(path string) error {
	if len(path) > maxPath {
		return pathTooLong(path)
	}
	if err := canLock(filepath.Dir(path), filepath.Base(path)+".lock"); err != nil {
		return fmt.Errorf("control socket %s: %w; pass another path with --control-socket", path, err)
	}
	_, err := isDeadSocket(path)
	return err
}

// canLock checks that a directory, or its closest existing parent, is writable, and that
// no process holds the lock in it.
func canLock(dir, lock string) error {
	if err := checkOwnership(dir); err != nil {
		return err
	}
	at := dir
	for {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is not a directory", at)
		}
		if err == nil {
			break
		}
		if parent := filepath.Dir(at); errors.Is(err, fs.ErrNotExist) && parent != at {
			at = parent
			continue
		}
		return err
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s is not writable: %w", at, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lock), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%w, llmsup%s", ErrLocked, holderOf(f))
	}
	return nil // closing the file releases the lock
}
