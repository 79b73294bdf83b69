package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// makeFolderOf makes the folder of a file, and those above it.
func makeFolderOf(path string) error {
	folder := filepath.Dir(path)
	if info, err := os.Stat(folder); err == nil && info.IsDir() {
		return nil
	}
	if filepath.Dir(folder) != folder {
		if err := makeFolderOf(folder); err != nil {
			return err
		}
	}
	if err := os.Mkdir(folder, 0o755); err != nil { //nolint:gosec // a service of another user reads models
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return fmt.Errorf("make the folder for the model: %w", err)
	}
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer file.Close()
	return adoptOwner(file, folder)
}

// adoptOwner gives what root created to the owner of the folder that it is in: that is the
// service's user in the service's folder, who has to be able to continue a download and to
// remove a model. It uses the open file, not its path: that user may replace what is at the path,
// and must not get another file of root's. (Package downloads has the same for a link, which
// cannot be opened itself.)
func adoptOwner(file *os.File, path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return nil
	}
	return file.Chown(int(stat.Uid), int(stat.Gid))
}

// allocated returns the bytes that a file takes on the disk; 0 = it is not there.
func allocated(path string) int64 {
	var stat unix.Stat_t
	if unix.Lstat(path, &stat) != nil {
		return 0
	}
	return stat.Blocks * 512
}

// checkSpace checks that the disk of a file has room for so many more bytes.
func checkSpace(path string, needed int64) error {
	var stat unix.Statfs_t
	folder := filepath.Dir(path)
	if err := unix.Statfs(folder, &stat); err != nil {
		return nil //nolint:nilerr // a disk that does not say is tried
	}
	free := int64(stat.Bavail) * stat.Bsize
	if needed <= free {
		return nil
	}
	return permanentErrorf("the disk of %s has %s free, and the download needs %s: free %s, or choose another folder", folder, Size(free), Size(needed), Size(needed-free))
}

// Size returns a number of bytes for people, in GiB or MiB.
func Size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}
