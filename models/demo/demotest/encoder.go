package demotest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/llmsup/llmsup/models/demo"
)

// Encoder writes an encoder and returns its path. The file is removed when the test ends.
func Encoder(t testing.TB, e demo.Encoder) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), e.FileName())
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}
