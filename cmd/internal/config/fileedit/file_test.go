package fileedit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// TestKeyFile: a file keeps its mode and owner, a link stays one, and edits at the
// same time lose nothing.
func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real", "llmsup.yaml"), filepath.Join(dir, "link.yaml")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# mine\nkeys:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o646); err != nil {
		t.Fatal(err)
	}
	owner := os.Getuid()
	if owner == 0 {
		owner = 4242
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real/llmsup.yaml", link); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			_, hash := config.NewClientKey()
			if err := Add(link, fmt.Sprint("key", i), config.ClientKey{SHA256: hash}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if left, err := Revoke(link, "key3"); err != nil || left != 7 {
		t.Errorf("%d left, %v", left, err)
	}
	keys, err := List(link)
	if err != nil || len(keys) != 7 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat, _ := info.Sys().(*syscall.Stat_t); info.Mode() != 0o646 || int(stat.Uid) != owner {
		t.Errorf("%v, owner %d", info.Mode(), stat.Uid)
	}
	if target, err := os.Readlink(link); err != nil || target != "real/llmsup.yaml" {
		t.Errorf("the link: %q, %v", target, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("files are left: %v", entries)
	}
	if _, err := Revoke(filepath.Join(dir, "real"), "x"); err == nil {
		t.Error("a folder")
	}
}

// TestKeyFileNotWritten: a file that cannot be replaced stays as it is.
func TestKeyFileNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 250)+".yaml") // there is no longer name, so none for a file beside it
	if err := os.WriteFile(path, []byte("keys:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Add(path, "x", config.ClientKey{SHA256: hashOfA})
	if want := "configuration " + path + " cannot be written: file name too long; nothing was changed; "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "keys:\n" {
		t.Errorf("%q, %v", raw, err)
	}
}
