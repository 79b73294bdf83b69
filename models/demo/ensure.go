package demo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Ensure returns the path of the Small model in dir, which it creates where
// needed. A file that is there and has exactly the right bytes is left as it is;
// any other is replaced. The file appears whole or not at all, so it can be
// interrupted, run by two processes at once, and run while a llama-server has the
// old file mapped.
func Ensure(dir string) (path string, err error) {
	var model bytes.Buffer
	if err := Write(&model, Small); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "demo.gguf")
	if holds(path, model.Bytes()) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write demo model: %w", err)
	}
	if err := replace(path, model.Bytes()); err != nil {
		return "", fmt.Errorf("write demo model %s: %w", path, err)
	}
	return path, nil
}

// holds reports whether the file at path can be read and is exactly data.
func holds(path string, data []byte) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(data)) {
		return false
	}
	got, err := os.ReadFile(path)
	return err == nil && bytes.Equal(got, data)
}

// replace writes data to a file beside path and renames it to path.
func replace(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".demo-*.gguf")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(data)
	if err == nil {
		// Without it a crash of the machine may leave the new name with no bytes.
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
