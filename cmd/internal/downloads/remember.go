package downloads

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/llmsup/llmsup/models/gguf"
)

// refsFolder is below the folder with the models. It has a link for each ref, to the file that
// was downloaded for it. The listing of models skips hidden folders.
const refsFolder = ".refs"

// linkOf returns the link of a ref. Its name is a hash: a ref may be longer than a file's name, and
// the query of a URL may be secret.
func linkOf(dir, ref string) string {
	return filepath.Join(dir, refsFolder, fmt.Sprintf("%x", sha256.Sum256([]byte(ref))))
}

// Remember records which file was downloaded for a ref, so that Find needs no network. path is
// below dir, and of a split model its first part.
func Remember(dir, ref, path string) error {
	link := linkOf(dir, ref)
	target, err := filepath.Rel(filepath.Dir(link), path)
	if err != nil {
		return fmt.Errorf("remember the download of %s: %w", ref, err)
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o750); err != nil {
		return err
	}
	if err := renameio.Symlink(target, link); err != nil {
		return err
	}
	return errors.Join(adoptOwner(filepath.Dir(link)), adoptOwner(link))
}

// adoptOwner gives what root has created to the owner of the folder that it is in: the service's
// user, who may have to replace it. It uses the path, as a link cannot be opened itself, and
// follows no link, so that the owner of a link's target stays. (models/hub has the same for open
// files.)
func adoptOwner(path string) error {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Lchown(path, int(stat.Uid), int(stat.Gid))
	}
	return nil
}

// Find returns the path of the model that was downloaded for a ref. ok is false if there is
// none, or not all of its parts are there any more.
func Find(dir, ref string) (path string, ok bool) {
	link := linkOf(dir, ref)
	target, err := os.Readlink(link)
	if err != nil {
		return "", false
	}
	path = filepath.Join(filepath.Dir(link), target)
	return path, exists(path)
}

// exists reports whether a model is there, with all its parts.
func exists(path string) bool {
	for _, part := range gguf.Parts(path) {
		if info, err := os.Stat(part); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// Forget removes what is remembered of files that are gone.
func Forget(dir string) error {
	links, err := os.ReadDir(filepath.Join(dir, refsFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, link := range links {
		path := filepath.Join(dir, refsFolder, link.Name())
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}
