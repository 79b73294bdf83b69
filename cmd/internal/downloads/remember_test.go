package downloads

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// write writes files of a test below a folder.
func write(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("GGUF"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemember: a model is found by its ref alone, with all its parts, wherever the folder is
// moved, and no longer once a part is gone.
func TestRemember(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "models")
	one, split := filepath.Join(dir, "a.gguf"), filepath.Join(dir, "org/repo/b-00001-of-00002.gguf")
	write(t, append(gguf.Parts(split), one)...)
	refs := map[string]string{"https://example.com/x/a.gguf": one, "hf:org/repo:Q4_K_M@refs/pr/1": split, "hf:org/repo": split}
	for ref, path := range refs {
		if err := Remember(dir, ref, path); err != nil {
			t.Fatal(err)
		}
		if err := Remember(dir, ref, path); err != nil { // once more
			t.Fatal(err)
		}
	}
	moved := filepath.Join(filepath.Dir(dir), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	for ref, path := range refs {
		if got, ok := Find(moved, ref); !ok || got != strings.Replace(path, dir, moved, 1) {
			t.Errorf("%s: %s %v", ref, got, ok)
		}
	}
	if _, ok := Find(moved, "hf:org/repo:Q8_0"); ok {
		t.Error("found what was not downloaded")
	}
	if err := os.Remove(filepath.Join(moved, "org/repo/b-00002-of-00002.gguf")); err != nil {
		t.Fatal(err)
	}
	if _, ok := Find(moved, "hf:org/repo"); ok {
		t.Error("found with a part missing")
	}
	if err := os.Remove(filepath.Join(moved, "org/repo/b-00001-of-00002.gguf")); err != nil {
		t.Fatal(err)
	}
	if err := Forget(moved); err != nil {
		t.Fatal(err)
	}
	if links, err := os.ReadDir(filepath.Join(moved, refsFolder)); err != nil || len(links) != 1 {
		t.Errorf("%v %v", links, err)
	}
	long := "https://example.com/" + strings.Repeat("x", 300) + ".gguf?sig=SECRET"
	if err := Remember(moved, long, filepath.Join(moved, "a.gguf")); err != nil {
		t.Error(err)
	}
	if path, ok := Find(moved, long); !ok || path != filepath.Join(moved, "a.gguf") {
		t.Errorf("%s %v", path, ok)
	}
	if err := Forget(t.TempDir()); err != nil {
		t.Error(err)
	}
}
