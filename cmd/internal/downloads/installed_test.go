package downloads

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// TestInstalled: models are listed with all their parts, found by each of their names, and
// removed with what is remembered of them and the folders that are empty then.
func TestInstalled(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	dir := filepath.Join(t.TempDir(), "models")
	if list, err := List(dir); err != nil || len(list) != 0 {
		t.Errorf("no folder: %+v %v", list, err)
	}
	split := filepath.Join(dir, "org/repo/big-Q8_0-00001-of-00002.gguf")
	write(t, append(gguf.Parts(split), filepath.Join(dir, "org/repo/small.gguf"), filepath.Join(dir, "org/other/small.gguf"), filepath.Join(dir, "org/half/half.gguf.part"),
		filepath.Join(dir, ".hidden/x.gguf"), filepath.Join(dir, "readme.txt"), filepath.Join(outside, "x.gguf"))...)
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := Remember(dir, "hf:org/repo:Q8_0", split); err != nil {
		t.Fatal(err)
	}
	list, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"big-Q8_0": 1, "big-Q8_0.gguf": 1, "hf:org/repo:Q8_0": 1, split: 1, gguf.Parts(split)[1]: 1, "org/repo/big-Q8_0-00001-of-00002.gguf": 1, "half": 1,
		"small": 2, "x": 0, filepath.Join(dir, "link/x.gguf"): 0, filepath.Join(outside, "x.gguf"): 0, "hf:org/repo": 0, "": 0,
	} {
		if found := Named(dir, list, name); len(found) != want {
			t.Errorf("%q: %+v", name, found)
		}
	}
	big := Named(dir, list, "big-Q8_0")[0]
	if big.Bytes != 8 || len(big.Files) != 2 || big.Path != split || big.Unfinished() || !big.Is(gguf.Parts(split)[1]) || big.Is(filepath.Join(outside, "x.gguf")) {
		t.Errorf("%+v", big)
	}
	half := Named(dir, list, "half")[0]
	if !half.Unfinished() || half.Bytes != 4 {
		t.Errorf("%+v", half)
	}
	for _, m := range []Installed{big, half} {
		if err := m.Remove(dir); err != nil {
			t.Error(err)
		}
	}
	if _, ok := Find(dir, "hf:org/repo:Q8_0"); ok {
		t.Error("it is still remembered")
	}
	if _, err := os.Stat(filepath.Join(dir, "org/half")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder stays: %v", err)
	}
	if list, err = List(dir); err != nil || !slices.EqualFunc(list, []string{"org/other/small.gguf", "org/repo/small.gguf"}, func(m Installed, path string) bool { return m.Path == filepath.Join(dir, path) }) {
		t.Errorf("%+v %v", list, err)
	}
	if err := big.Remove(dir); err == nil {
		t.Error("it is gone already")
	}
}

// TestInstalledNamesakes: a model and a split one of the same name are two, and so are splits into
// different numbers of parts: removing one must not remove the other.
func TestInstalledNamesakes(t *testing.T) {
	dir := t.TempDir()
	files := append([]string{filepath.Join(dir, "m.gguf"), filepath.Join(dir, "m-00001-of-00001.gguf")}, gguf.Parts(filepath.Join(dir, "m-00001-of-00002.gguf"))...)
	files = append(files, gguf.Parts(filepath.Join(dir, "m-00001-of-00003.gguf"))...)
	write(t, files...)
	list, err := List(dir)
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v %v", list, err)
	}
	if found := Named(dir, list, files[0]); len(found) != 1 || !slices.Equal(found[0].Files, files[:1]) {
		t.Errorf("%+v", found)
	}
	if found := Named(dir, list, "m"); len(found) != 4 {
		t.Errorf("a name of several: %+v", found)
	}
}
