package demo

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

func TestEnsure(t *testing.T) {
	var model bytes.Buffer
	if err := Write(&model, Small); err != nil {
		t.Fatal(err)
	}
	good := model.Bytes()
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1

	tests := map[string]struct {
		there []byte // nil for no file
		kept  bool
	}{
		"nothing there": {nil, false},
		"the same":      {good, true},
		"truncated":     {good[:len(good)-1], false},
		"empty":         {[]byte{}, false},
		"longer":        {append(bytes.Clone(good), 0), false},
		"a bit flipped": {flipped, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state", "llmsup")
			want := filepath.Join(dir, "demo.gguf")
			var before os.FileInfo
			if tt.there != nil {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(want, tt.there, 0o600); err != nil {
					t.Fatal(err)
				}
				before = stat(t, want)
			}
			path, err := Ensure(dir)
			if err != nil || path != want {
				t.Fatalf("got %s, %v, want %s", path, err, want)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, good) {
				t.Errorf("the file is not the model: %d bytes, %v", len(got), err)
			}
			if before != nil && os.SameFile(before, stat(t, path)) != tt.kept {
				t.Errorf("file kept: %v, want %v", !tt.kept, tt.kept)
			}
			if _, err := gguf.Read(path); err != nil {
				t.Error(err)
			}
			onlyTheModel(t, dir)
		})
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// onlyTheModel checks that no temporary file stayed behind.
func onlyTheModel(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "demo.gguf" {
		t.Errorf("%s has %v, %v", dir, entries, err)
	}
}

func TestEnsureFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("in a file instead of a folder: %v", err)
	}

	// A folder of the model's name cannot be replaced, and nothing may stay behind.
	dir := t.TempDir()
	taken := filepath.Join(dir, "demo.gguf")
	if err := os.MkdirAll(filepath.Join(taken, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("over a folder: %v", err)
	}
	onlyTheModel(t, dir)
}
