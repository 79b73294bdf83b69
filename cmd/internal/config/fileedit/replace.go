package fileedit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// rewrite replaces a configuration file with what edit makes of it, atomically and with
// the same mode and owner. A symbolic link stays one. Simultaneous edits wait for each
// other.
func rewrite(path string, edit func(raw []byte) ([]byte, *config.Config, error)) (*config.Config, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, config.FileError(path, err)
	}
	if dir, err := os.Open(filepath.Dir(target)); err == nil {
		defer dir.Close()
		_ = unix.Flock(int(dir.Fd()), unix.LOCK_EX) // some file systems have no locks
	}
	raw, err := config.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(target)
	if err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("configuration %s: it is not a regular file; pass another file with --config", path)
	}
	text, after, err := edit(raw)
	if err != nil {
		return nil, err
	}
	if err := replaceFile(target, info, text); err != nil {
		if cause, ok := errors.AsType[syscall.Errno](err); ok {
			err = cause
		}
		return nil, fmt.Errorf("configuration %s cannot be written: %w; nothing was changed; run the command as the owner of the file and its folder", path, err)
	}
	return after, nil
}

func replaceFile(path string, was os.FileInfo, text []byte) error {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // after the replacement the temporary file no longer exists
	if stat, ok := was.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(was.Mode().Perm()); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
