// Package demotest provides the counting model in its slow shape, and encoders. The tests of supervisor
// and of cmd/llmsup use it for queues, long prompts and kills in the middle of an answer.
package demotest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/llmsup/llmsup/models/demo"
)

// Slow returns the path of a counting model of 215 MB that takes 20 to 100 ms a token. The
// file must not be changed.
//
// A server on it keeps all cores busy while it has calls. So the number of tests that use
// it at a time, in all packages, is half the number of cores; other tests wait here. A
// test holds its place until it ends, for its subtests as well.
func Slow(t testing.TB) (path string) {
	t.Helper()
	path, err := slow()
	if err == nil {
		err = lockForTest(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	slow = sync.OnceValues(makeSlow)
	dir  string // of the model; "" = it was not written
)

// Cleanup removes the model. TestMain calls it once all tests have run.
func Cleanup() {
	if dir != "" {
		_ = os.RemoveAll(dir)
	}
}

func makeSlow() (path string, err error) {
	if dir, err = os.MkdirTemp("", "llmsup-demotest"); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "slow.gguf")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := &sparse{f: f}
	return path, errors.Join(demo.Write(w, demo.Slow), f.Truncate(w.size), f.Close())
}

// sparse writes a file with holes in place of zeros, which are 200 of the 215 MB.
type sparse struct {
	f    *os.File
	size int64
}

var zeros [64 << 10]byte

func (s *sparse) Write(p []byte) (int, error) {
	for piece := range slices.Chunk(p, len(zeros)) {
		if !bytes.Equal(piece, zeros[:len(piece)]) {
			if _, err := s.f.WriteAt(piece, s.size); err != nil {
				return 0, err
			}
		}
		s.size += int64(len(piece))
	}
	return len(p), nil
}
