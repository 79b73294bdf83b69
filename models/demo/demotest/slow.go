// Package demotest lends tests the counting model in its slow shape. Those of
// supervisor and of cmd/llmsup use it for queues, long prompts and kills in the
// middle of an answer.
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

// Slow returns the path of a counting model of 215 MB that takes 20 to 100 ms a
// token. It must not be changed.
//
// A server on it keeps all cores busy while it has calls. So only as many tests
// have it at a time as the machine has pairs of cores, whatever package they are in;
// others wait here. A test has it until it ends, and its subtests have it with it.
func Slow(t testing.TB) (path string) {
	t.Helper()
	path, err := slow()
	if err == nil {
		err = lend(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	slow = sync.OnceValues(makeSlow)
	dir  string // that it is in; "" = it was not made
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

// sparse writes a file and leaves out what is zero: 200 of the 215 MB.
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
