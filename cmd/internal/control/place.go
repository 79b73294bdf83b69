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

// MakeDir makes a folder for this user alone, if there is none. Below the
// folder for temporary files, where everybody can make one first, all that
// leads to it has to be this user's: whoever owns a folder on the way can put
// his own sockets in the place of the daemon's.
func MakeDir(dir string) error {
	if err := trusted(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return trusted(dir)
}

// trusted looks at every folder between the one for temporary files and dir, as
// far as they exist.
func trusted(dir string) error {
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

// CheckStateDir says what would keep a daemon from a state directory. It
// changes nothing.
func CheckStateDir(dir string) error {
	if err := canHold(dir, "lock"); err != nil {
		return fmt.Errorf("state directory %s: %w; pass another one with --state-dir", dir, err)
	}
	return nil
}

// CheckSocket says what would keep a daemon from its control socket. It changes
// nothing.
func CheckSocket(path string) error {
	if len(path) > maxPath {
		return tooLong(path)
	}
	if err := canHold(filepath.Dir(path), filepath.Base(path)+".lock"); err != nil {
		return fmt.Errorf("control socket %s: %w; pass another path with --control-socket", path, err)
	}
	_, err := lookAt(path)
	return err
}

// canHold says whether a folder, or the one in which it would be made, can be
// written to, and whether nobody holds the lock in it.
func canHold(dir, lock string) error {
	if err := trusted(dir); err != nil {
		return err
	}
	at := dir
	for {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is no folder", at)
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
		return fmt.Errorf("%s can't be written to: %w", at, err)
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
		return fmt.Errorf("%w, llmsup%s", ErrHeld, holderOf(f))
	}
	return nil // closing gives the lock back
}
