package demo

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Ensure returns the path of the Small model in dir, which it creates where
// needed. A file with exactly the right bytes is kept; any other is replaced
// atomically. So Ensure can be interrupted, two processes can call it at once, and a
// llama-server keeps the old file that it has mapped.
func Ensure(dir string) (path string, err error) {
	var model bytes.Buffer
	if err := Write(&model, Small); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "demo.gguf")
	if hasContent(path, model.Bytes()) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write demo model: %w", err)
	}
	if err := renameio.WriteFile(path, model.Bytes(), 0o600, renameio.WithTempDir(dir)); err != nil {
		return "", fmt.Errorf("write demo model %s: %w", path, err)
	}
	return path, nil
}

// hasContent reports whether path is a readable regular file with exactly this content.
func hasContent(path string, data []byte) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(data)) {
		return false
	}
	got, err := os.ReadFile(path)
	return err == nil && bytes.Equal(got, data)
}
